//! Who may register.

use ring::hmac;
use tern_protocol::{
    code::Code,
    frame::{Entitlement, Registration, Secret},
};
use tern_server::{clock::Clock, config::RegistrationPolicy, invites, random::Random};

use crate::common::{Key, World, raw::Raw};

async fn registers(world: &World, name: &str, entitlement: Entitlement) -> Result<Raw, Code> {
    let mut raw = world.connect().await;
    let credential = raw.register(&Key::new(), name, entitlement);
    match raw.hello(credential).await {
        Ok(_) => Ok(raw),
        Err(rejected) => Err(rejected.code),
    }
}

/// The code with which a registration is rejected.
async fn refuses(world: &World, name: &str, entitlement: Entitlement) -> Code {
    match registers(world, name, entitlement).await {
        Ok(_) => panic!("{name} should have been rejected"),
        Err(code) => code,
    }
}

fn invite(token: &Secret) -> Entitlement {
    Entitlement::Invite(token.clone())
}

fn forged() -> Secret {
    Secret::new(*b"forged")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_server_takes_only_links() {
    let mut world = World::start().await;
    let key = world.register("ann").await.away();
    world.restart_with(|config| config.registration.policy = RegistrationPolicy::Closed).await;
    assert_eq!(world.connect().await.greeting.registration, Registration::Closed);
    for entitlement in [Entitlement::None, invite(&forged()), Entitlement::Token(forged())] {
        assert_eq!(refuses(&world, "bob", entitlement).await, Code::RegistrationClosed);
    }
    let mut ann = key.back(&world).await;
    let phone = world.link(&mut ann).await;
    assert_eq!(phone.account(), ann.account());
    let count = world.metrics().hellos_rejected.get(Code::RegistrationClosed);
    assert_eq!(count, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_makes_one_account() {
    let world = World::with(|config| config.registration.policy = RegistrationPolicy::Invite).await;
    assert_eq!(world.connect().await.greeting.registration, Registration::Invite);
    assert_eq!(refuses(&world, "ann", Entitlement::None).await, Code::CredentialNeeded);
    assert_eq!(refuses(&world, "ann", invite(&forged())).await, Code::CredentialInvalid);
    let now_ms = Clock::system().now_ms();
    let make = async |expires_ms| {
        invites::make(world.store(), &Random::system(), expires_ms).await.unwrap()
    };
    let old = make(now_ms).await;
    assert_eq!(refuses(&world, "ann", invite(&old)).await, Code::CredentialInvalid);
    let good = make(now_ms + 600_000).await;
    registers(&world, "ann", invite(&good)).await.ok().unwrap();
    assert_eq!(refuses(&world, "bob", invite(&good)).await, Code::CredentialInvalid);
    // An invite makes an account, and no further device of one.
    let good = make(now_ms + 600_000).await;
    assert_eq!(refuses(&world, "ann", invite(&good)).await, Code::NameTaken);
    registers(&world, "bob", invite(&good)).await.ok().unwrap();
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut all = [0; 4];
        all[1..=chunk.len()].copy_from_slice(chunk);
        let all = u32::from_be_bytes(all);
        for digit in 0..=chunk.len() {
            text.push(DIGITS[(all >> (18 - 6 * digit) & 63) as usize].into());
        }
    }
    text
}

fn token(secret: &[u8], name: &str, expires_ms: u64) -> Entitlement {
    let head = base64(br#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = format!(r#"{{"sub":"{name}","aud":"chat","exp":{}}}"#, expires_ms / 1_000);
    let signed = format!("{head}.{}", base64(claims.as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    Entitlement::Token(Secret::new(format!("{signed}.{}", base64(tag.as_ref()))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_makes_the_account_of_its_name_and_its_devices() {
    let secret = [7; 32];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let world = World::with(|config| {
        config.registration.policy = RegistrationPolicy::Token;
        config.registration.jwt_algorithms = vec![tern_server::config::JwtAlgorithm::HS256];
        config.registration.jwt_key_file = Some(file);
        config.registration.jwt_audience = Some("chat".to_owned());
        config.registration.jwt_leeway_ms = 0;
    })
    .await;
    assert_eq!(world.connect().await.greeting.registration, Registration::Token);
    let later_ms = Clock::system().now_ms() + 600_000;
    assert_eq!(refuses(&world, "ann", Entitlement::None).await, Code::CredentialNeeded);
    for bad in [
        token(&[8; 32], "ann", later_ms),
        token(&secret, "bob", later_ms),
        token(&secret, "ann", 1_000_000),
        Entitlement::Token(forged()),
    ] {
        assert_eq!(refuses(&world, "ann", bad).await, Code::CredentialInvalid);
    }
    let good = || token(&secret, "ann", later_ms);
    registers(&world, "ann", good()).await.ok().unwrap();
    registers(&world, "ann", good()).await.ok().unwrap();
    assert_eq!(world.metrics().registrations.get(), 2);
}
