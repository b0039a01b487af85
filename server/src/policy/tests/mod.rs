mod makers;
mod tokens;

use std::path::Path;

use super::*;
use crate::{config::JwtAlgorithm, random::Random, test_store::MapStore};
use makers::maker;

const NOW_S: u64 = 1_700_000_000;

fn settings(key_file: &Path, algorithm: JwtAlgorithm) -> config::Registration {
    config::Registration {
        policy: RegistrationPolicy::Token,
        jwt_algorithms: vec![algorithm],
        jwt_key_file: Some(key_file.to_owned()),
        jwt_audience: Some("tern".to_owned()),
        jwt_issuer: Some("users".to_owned()),
        ..config::Registration::default()
    }
}

fn policy(of: RegistrationPolicy) -> Policy {
    let settings = config::Registration { policy: of, ..config::Registration::default() };
    Policy::open(&settings).unwrap()
}

fn register(entitlement: Entitlement) -> Register {
    Register {
        name: "ann".to_owned(),
        device_key: [0; 32],
        label: String::new(),
        signature: [0; 64],
        entitlement,
    }
}

async fn check(policy: &Policy, entitlement: Entitlement) -> Result<Granted, Code> {
    let store = MapStore::default();
    policy.check(&register(entitlement), &store, NOW_S * 1000).await
}

fn secret() -> Secret {
    Secret::new(b"x".as_slice())
}

#[tokio::test]
async fn each_policy_asks_for_its_own_credential() {
    use RegistrationPolicy::{Closed, Invite, Open, Token};
    let token_policy = maker(JwtAlgorithm::ES256).policy();
    for entitlement in
        [Entitlement::None, Entitlement::Invite(secret()), Entitlement::Token(secret())]
    {
        let closed = check(&policy(Closed), entitlement.clone()).await;
        assert_eq!(closed, Err(Code::RegistrationClosed));
        let open = check(&policy(Open), entitlement.clone()).await;
        assert_eq!(open, Ok(Granted::NewAccount { spend: None }));
        let invite = check(&policy(Invite), entitlement.clone()).await;
        let token = check(&token_policy, entitlement.clone()).await;
        let codes = match entitlement {
            Entitlement::Invite(_) => (Code::CredentialInvalid, Code::CredentialNeeded),
            Entitlement::Token(_) => (Code::CredentialNeeded, Code::CredentialInvalid),
            _ => (Code::CredentialNeeded, Code::CredentialNeeded),
        };
        assert_eq!((invite, token), (Err(codes.0), Err(codes.1)));
    }
    for of in [Closed, Open, Invite] {
        let link = check(&policy(of), Entitlement::Link(secret())).await;
        assert_eq!(link, Ok(Granted::Link(secret())));
    }
    assert!(matches!(
        Policy::open(&config::Registration { policy: Token, ..config::Registration::default() }),
        Err(PolicyError::NoKey)
    ));
}

#[tokio::test]
async fn an_invite_is_to_be_spent_with_the_account() {
    let policy = policy(RegistrationPolicy::Invite);
    let store = MapStore::default();
    let token = invites::make(&store, &Random::seeded(1), NOW_S * 1000 + 1).await.unwrap();
    let register = register(Entitlement::Invite(token));
    let granted = policy.check(&register, &store, NOW_S * 1000).await;
    assert!(matches!(granted, Ok(Granted::NewAccount { spend: Some(_) })));
    let late = policy.check(&register, &store, NOW_S * 1000 + 1).await;
    assert_eq!(late, Err(Code::CredentialInvalid));
    store.fail(true);
    let failed = policy.check(&register, &store, NOW_S * 1000).await;
    assert_eq!(failed, Err(Code::Internal));
}
