//! Tokens, good and bad.

use ring::hmac;
use serde_json::{Value, json};

use super::{
    makers::{Maker, RSA_PUBLIC, base64url, maker, makers},
    *,
};

const RSA_1024_PUBLIC: &str = include_str!("keys/rsa-1024.pub.pem");

fn claims() -> Value {
    json!({"sub": "ann", "exp": NOW_S + 600, "iss": "users", "aud": "tern"})
}

fn claims_but(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

async fn check_token(policy: &Policy, token: &str) -> Result<Granted, Code> {
    check(policy, Entitlement::Token(Secret::new(token))).await
}

async fn refused(policy: &Policy, token: &str) -> bool {
    check_token(policy, token).await == Err(Code::CredentialInvalid)
}

#[tokio::test]
async fn every_algorithm_is_taken_from_a_key_file_and_from_a_set() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    for maker in makers() {
        let token = maker.token(&claims());
        let good = check_token(&maker.policy(), &token).await;
        assert_eq!(good, Ok(Granted::AccountOrDevice), "{:?}", maker.algorithm);

        std::fs::write(&file, json!({"keys": [maker.jwk]}).to_string()).unwrap();
        let mut settings = settings(&file, maker.algorithm);
        settings.jwt_jwks_file = settings.jwt_key_file.take();
        let policy = Policy::open(&settings).unwrap();
        let good = check_token(&policy, &token).await;
        assert_eq!(good, Ok(Granted::AccountOrDevice), "{:?}", maker.algorithm);
    }
}

#[tokio::test]
async fn a_token_cannot_choose_how_it_is_checked() {
    let makers = makers();
    for maker in &makers {
        let policy = maker.policy();
        // Not signed at all.
        for alg in ["none", "None", "NONE", "", "HS384", "PS256"] {
            let header = json!({"alg": alg}).to_string();
            assert!(refused(&policy, &maker.token_of(&header, &claims().to_string())).await);
            let unsigned = format!(
                "{}.{}.",
                base64url(header.as_bytes()),
                base64url(claims().to_string().as_bytes())
            );
            assert!(refused(&policy, &unsigned).await);
        }
        // Signed with the published key as if it were a secret.
        let public = Policy::open(&settings(Path::new("/dev/null"), maker.algorithm));
        assert!(public.is_err(), "an empty key is no key");
        let message_key = hmac::Key::new(hmac::HMAC_SHA256, &maker.key_file);
        let message = format!(
            "{}.{}",
            base64url(br#"{"alg":"HS256"}"#),
            base64url(claims().to_string().as_bytes())
        );
        let signature = hmac::sign(&message_key, message.as_bytes());
        assert!(refused(&policy, &format!("{message}.{}", base64url(signature.as_ref()))).await);
        // Rightly signed, by another algorithm and key than the configured.
        for other in makers.iter().filter(|other| other.algorithm != maker.algorithm) {
            assert!(refused(&policy, &other.token(&claims())).await);
            // And with a header that names the configured algorithm.
            let token = other.token_of(&maker.header(), &claims().to_string());
            assert!(refused(&policy, &token).await);
        }
        // A key that the token brings along.
        let header = json!({"alg": format!("{:?}", maker.algorithm), "jwk": maker.jwk, "kid": "x"});
        let token =
            super::maker(maker.algorithm).token_of(&header.to_string(), &claims().to_string());
        if maker.algorithm == JwtAlgorithm::ES256 {
            assert!(refused(&policy, &token).await, "another P-256 key");
        }
    }
}

#[tokio::test]
async fn no_changed_part_is_taken() {
    for maker in makers() {
        let policy = maker.policy();
        let token = maker.token(&claims());
        let parts: Vec<&str> = token.split('.').collect();
        let other = base64url(claims_but("sub", json!("bob")).to_string().as_bytes());
        for changed in [
            format!("{}.{}.{}", parts[0], other, parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{token}.{}", parts[2]),
            format!("{token}="),
            format!(" {token}"),
            String::new(),
            "..".to_owned(),
            ".".repeat(4096),
        ] {
            assert!(refused(&policy, &changed).await, "{changed}");
        }
        let signature_at = token.len() - parts[2].len();
        for at in (signature_at..token.len() - 1).step_by(7) {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(refused(&policy, &changed).await, "byte {at}");
        }
        let not_text = Entitlement::Token(Secret::new([0xff; 64]));
        assert_eq!(check(&policy, not_text).await, Err(Code::CredentialInvalid));
    }
}

#[tokio::test]
async fn claims_must_be_there_and_right() {
    let maker = maker(JwtAlgorithm::ES256);
    let policy = maker.policy();
    for (key, value, good) in [
        ("exp", json!(NOW_S - 59), true),
        ("exp", json!(NOW_S - 60), false),
        ("exp", json!(NOW_S as f64 + 0.5), true),
        ("exp", json!((NOW_S + 600).to_string()), false),
        ("exp", json!(null), false),
        ("exp", json!(-1), false),
        ("nbf", json!(NOW_S + 60), true),
        ("nbf", json!(NOW_S + 61), false),
        ("nbf", json!("soon"), false),
        ("nbf", json!(null), false),
        ("sub", json!("bob"), false),
        ("sub", json!(["ann"]), false),
        ("sub", json!(null), false),
        ("iss", json!("others"), false),
        ("iss", json!(null), false),
        ("aud", json!("others"), false),
        ("aud", json!(["others", "tern"]), true),
        ("aud", json!([]), false),
        ("aud", json!(null), false),
        ("admin", json!(true), true),
    ] {
        let token = maker.token(&claims_but(key, value.clone()));
        assert_eq!(!refused(&policy, &token).await, good, "{key}: {value}");
    }
    for key in ["exp", "sub", "iss", "aud"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(key);
        assert!(refused(&policy, &maker.token(&claims)).await, "no {key}");
    }
    let twice = format!("{{\"sub\":\"bob\",{}", &claims().to_string()[1..]);
    assert!(refused(&policy, &maker.token_of(&maker.header(), &twice)).await);
    let critical = json!({"alg": "ES256", "crit": ["b64"], "b64": false}).to_string();
    assert!(refused(&policy, &maker.token_of(&critical, &claims().to_string())).await);
}

#[tokio::test]
async fn a_set_is_searched_by_key_id_and_used_for_signatures_only() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    let (one, two) = (maker(JwtAlgorithm::ES256), maker(JwtAlgorithm::ES256));
    let with = |maker: &Maker, more: Value| {
        let mut jwk = maker.jwk.clone();
        let more = more.as_object().unwrap().clone();
        jwk.as_object_mut().unwrap().extend(more);
        jwk
    };
    let open = |keys: Value| {
        std::fs::write(&file, json!({"keys": keys}).to_string()).unwrap();
        let mut settings = settings(&file, JwtAlgorithm::ES256);
        settings.jwt_jwks_file = settings.jwt_key_file.take();
        Policy::open(&settings)
    };
    let token = |maker: &Maker, kid: Option<&str>| {
        let header = match kid {
            Some(kid) => json!({"alg": "ES256", "kid": kid}),
            None => json!({"alg": "ES256"}),
        };
        maker.token_of(&header.to_string(), &claims().to_string())
    };

    let both = open(json!([with(&one, json!({"kid": "1"})), with(&two, json!({"kid": "2"}))]));
    let both = both.unwrap();
    for (maker, kid, good) in [
        (&one, Some("1"), true),
        (&two, Some("2"), true),
        (&two, None, true),
        (&two, Some("1"), false),
        (&one, Some("3"), false),
    ] {
        assert_eq!(!refused(&both, &token(maker, kid)).await, good, "{kid:?}");
    }

    for more in [
        json!({"use": "enc"}),
        json!({"key_ops": ["encrypt"]}),
        json!({"alg": "ES384"}),
        json!({"crv": "P-384"}),
        json!({"x": "AAAA"}),
    ] {
        let error = open(json!([with(&one, more)])).unwrap_err();
        assert!(matches!(error, PolicyError::Key { .. }), "{error}");
    }
    let error = open(json!([maker(JwtAlgorithm::HS256).jwk])).unwrap_err();
    assert!(error.to_string().contains("ES256"), "{error}");
}

#[tokio::test]
async fn keys_that_do_not_fit_are_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let ec = String::from_utf8(maker(JwtAlgorithm::ES256).key_file).unwrap();
    for (content, algorithm, why) in [
        ("too short", JwtAlgorithm::HS256, "32 bytes"),
        (RSA_PUBLIC, JwtAlgorithm::HS256, "a secret"),
        (RSA_PUBLIC, JwtAlgorithm::ES256, "isn't one for ES256"),
        (&ec, JwtAlgorithm::RS256, "isn't one for RS256"),
        (&ec, JwtAlgorithm::EdDSA, "isn't one for EdDSA"),
        (RSA_1024_PUBLIC, JwtAlgorithm::RS256, "2048"),
        ("nonsense", JwtAlgorithm::ES256, "PEM"),
    ] {
        std::fs::write(&file, content).unwrap();
        let error = Policy::open(&settings(&file, algorithm)).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("key"), "{error}");
    }
}

#[tokio::test]
async fn a_reload_takes_the_new_key_or_keeps_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let (old, new) = (maker(JwtAlgorithm::ES256), maker(JwtAlgorithm::ES256));
    std::fs::write(&file, &old.key_file).unwrap();
    let policy = Policy::open(&settings(&file, JwtAlgorithm::ES256)).unwrap();
    std::fs::write(&file, "nonsense").unwrap();
    assert!(policy.reload().is_err());
    assert!(!refused(&policy, &old.token(&claims())).await);
    std::fs::write(&file, &new.key_file).unwrap();
    policy.reload().unwrap();
    assert!(refused(&policy, &old.token(&claims())).await);
    assert!(!refused(&policy, &new.token(&claims())).await);
}

proptest::proptest! {
    #[test]
    fn no_input_panics_or_passes(header: Vec<u8>, claims: Vec<u8>, signature: Vec<u8>, raw: Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let policy = maker(JwtAlgorithm::EdDSA).policy();
        let parts = [header, claims, signature].map(|part| base64url(&part)).join(".");
        for token in [parts.into_bytes(), raw] {
            let entitlement = Entitlement::Token(Secret::new(token));
            let checked = runtime.block_on(check(&policy, entitlement));
            assert_eq!(checked, Err(Code::CredentialInvalid));
        }
    }
}
