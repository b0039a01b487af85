//! Who may register.
//!
//! [`Policy::check`] judges what a registration brings along, its entitlement. It doesn't know
//! accounts: whether a name is taken, whether a link token is good, and whether this very
//! registration was made before (which is answered as the first time, whatever it brings) is for the
//! caller to find out.

mod jwt;
mod keys;
#[cfg(test)]
mod tests;
mod verifier;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use tern_protocol::{
    code::Code,
    frame::{Entitlement, Register, Secret},
};

use crate::{
    config::{self, RegistrationPolicy},
    invites::{self, Spend},
    store::Store,
};
use jwt::Verification;

/// What a registration is entitled to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    /// A new account with its first device.
    NewAccount {
        /// To be made part of the transaction that makes the account. When its condition fails,
        /// somebody else was faster: [`Code::CredentialInvalid`].
        spend: Option<Spend>,
    },
    /// A new account, or a further device of the account of this name: the operator's user database
    /// says that it is the same user.
    AccountOrDevice,
    /// A further device, if the link token is good, which isn't known here.
    Link(Secret),
}

/// The policy can't be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum PolicyError {
    /// A key file can't be read.
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key file isn't what it should be.
    Key {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The configuration names no key.
    NoKey,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, source } => write!(f, "{}: {source}", file.display()),
            Self::Key { file, reason } => write!(f, "{}: {reason}", file.display()),
            Self::NoKey => f.write_str("the token policy needs a key"),
        }
    }
}

impl std::error::Error for PolicyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// The registration policy.
#[derive(Debug)]
pub struct Policy {
    settings: config::Registration,
    /// Under [`RegistrationPolicy::Token`] alone.
    verification: Option<RwLock<Arc<Verification>>>,
}

impl Policy {
    /// Sets up the configured policy; reads the keys of tokens if it needs them.
    pub fn open(settings: &config::Registration) -> Result<Self, PolicyError> {
        let verification = match settings.policy {
            RegistrationPolicy::Token => Some(RwLock::new(Arc::new(Verification::load(settings)?))),
            _ => None,
        };
        Ok(Self { settings: settings.clone(), verification })
    }

    /// Reads the keys of tokens again. After an error those before still hold.
    pub fn reload(&self) -> Result<(), PolicyError> {
        if let Some(verification) = &self.verification {
            let new = Arc::new(Verification::load(&self.settings)?);
            *verification.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        Ok(())
    }

    /// What a registration is entitled to, or the code to reject it with.
    pub async fn check(
        &self,
        register: &Register,
        store: &dyn Store,
        now_ms: u64,
    ) -> Result<Granted, Code> {
        if let Entitlement::Link(link) = &register.entitlement {
            return Ok(Granted::Link(link.clone()));
        }
        match (self.settings.policy, &register.entitlement) {
            (RegistrationPolicy::Closed, _) => Err(Code::RegistrationClosed),
            // What isn't needed isn't looked at, and an invite isn't spent.
            (RegistrationPolicy::Open, _) => Ok(Granted::NewAccount { spend: None }),
            (RegistrationPolicy::Invite, Entitlement::Invite(token)) => {
                match invites::find(store, token, now_ms).await {
                    Ok(Some(spend)) => Ok(Granted::NewAccount { spend: Some(spend) }),
                    Ok(None) => Err(Code::CredentialInvalid),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "an invite can't be looked up"
                        );
                        Err(Code::Internal)
                    }
                }
            }
            (RegistrationPolicy::Token, Entitlement::Token(token)) => self
                .verification()
                .filter(|verification| verification.accepts(token, &register.name, now_ms))
                .map(|_| Granted::AccountOrDevice)
                .ok_or(Code::CredentialInvalid),
            _ => Err(Code::CredentialNeeded),
        }
    }

    fn verification(&self) -> Option<Arc<Verification>> {
        let verification = self.verification.as_ref()?;
        Some(verification.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
