//! JSON Web Tokens of the operator's user database.

use jsonwebtoken::{TokenData, Validation, decode, decode_header};
use serde::Deserialize;
use tern_protocol::frame::Secret;

use super::{PolicyError, keys, keys::VerifyingKey, verifier};
use crate::config;

/// How tokens are checked.
#[derive(Debug)]
pub(super) struct Verification {
    keys: Vec<VerifyingKey>,
    issuer: Option<String>,
    audience: Option<String>,
    leeway_ms: u64,
}

/// The claims whose time is checked here, by the server's own clock. A claim that stands there twice
/// or with another type is an error, and no token.
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<f64>,
}

/// `null` is no time, so it must not pass for a claim that isn't there.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    f64::deserialize(deserializer).map(Some)
}

impl Verification {
    /// Reads the configured keys.
    pub(super) fn load(settings: &config::Registration) -> Result<Self, PolicyError> {
        verifier::install();
        Ok(Self {
            keys: keys::load(settings)?,
            issuer: settings.jwt_issuer.clone(),
            audience: settings.jwt_audience.clone(),
            leeway_ms: settings.jwt_leeway_ms,
        })
    }

    /// Whether this is a good token for the user of this name.
    pub(super) fn accepts(&self, token: &Secret, name: &str, now_ms: u64) -> bool {
        let Ok(header) = decode_header(token.expose()) else {
            return false;
        };
        // What a critical header means isn't known here, so the token can't be understood.
        if header.crit.is_some() {
            return false;
        }
        let fitting = self.keys.iter().filter(|key| {
            let same = |(a, b): (&String, &String)| a == b;
            key.algorithm == header.alg && key.id.as_ref().zip(header.kid.as_ref()).is_none_or(same)
        });
        for key in fitting {
            let validation = self.validation(key, name);
            if let Ok(TokenData { claims, .. }) =
                decode::<Claims>(token.expose(), &key.key, &validation)
            {
                return self.is_in_time(&claims, now_ms);
            }
        }
        false
    }

    /// All but the time. The algorithm is that of the key, never one that the token chose.
    fn validation(&self, key: &VerifyingKey, name: &str) -> Validation {
        let mut validation = Validation::new(key.algorithm);
        let mut required = vec!["exp", "sub"];
        validation.sub = Some(name.to_owned());
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        // The library goes by the system's clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation
    }

    fn is_in_time(&self, claims: &Claims, now_ms: u64) -> bool {
        let (now_ms, leeway_ms) = (now_ms as f64, self.leeway_ms as f64);
        let ended = now_ms >= claims.exp * 1000.0 + leeway_ms;
        let begun = claims.nbf.is_none_or(|nbf| now_ms + leeway_ms >= nbf * 1000.0);
        !ended && begun
    }
}
