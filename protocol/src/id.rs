//! Identifiers of accounts, devices and conversations, and the rules for names.

use std::{fmt, num::NonZeroU64, str::FromStr};

use ring::digest;

use crate::limits;

/// A text that isn't an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 16 (account, device) or 32 (conversation) lowercase hex digits")
    }
}

impl std::error::Error for ParseIdError {}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU64);

        impl $name {
            /// The id with this number; `None` for 0, which is no id.
            pub const fn new(value: u64) -> Option<Self> {
                match NonZeroU64::new(value) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }

            /// The number, as it stands in frames.
            pub const fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.get())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if text.len() != 16 || text.starts_with('+') {
                    return Err(ParseIdError);
                }
                let value = u64::from_str_radix(text, 16).map_err(|_| ParseIdError)?;
                Self::new(value).ok_or(ParseIdError)
            }
        }
    };
}

id! {
    /// An account: a person, or a program that acts as one.
    AccountId
}
id! {
    /// A device of an account. Device ids are unique on a server, not just within an account.
    DeviceId
}

/// A conversation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId([u8; 16]);

impl ConversationId {
    /// The conversation with these bytes as its id.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The conversation of two accounts, by [TERN-3.2-2]; `None` if they are the same.
    pub fn direct(a: AccountId, b: AccountId) -> Option<Self> {
        if a == b {
            return None;
        }
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"tern/1 direct\0");
        hash.update(&low.get().to_le_bytes());
        hash.update(&high.get().to_le_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finish().as_ref()[..16]);
        Some(Self(id))
    }

    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConversationId({self})")
    }
}

impl FromStr for ConversationId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.len() != 32 || text.starts_with('+') {
            return Err(ParseIdError);
        }
        let value = u128::from_str_radix(text, 16).map_err(|_| ParseIdError)?;
        Ok(Self(value.to_be_bytes()))
    }
}

/// Whether a text may be an account's name, by [TERN-3.2-3].
pub fn name_is_valid(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => {
            bytes.len() <= limits::NAME_BYTES
                && inner(first)
                && inner(last)
                && bytes.iter().all(|&b| inner(b) || matches!(b, b'.' | b'_' | b'-'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_derive_the_same_conversation() {
        let (a, b) = (AccountId::new(7).unwrap(), AccountId::new(u64::MAX).unwrap());
        assert_eq!(ConversationId::direct(a, b), ConversationId::direct(b, a));
        assert_eq!(ConversationId::direct(a, a), None);
    }

    #[test]
    fn printed_ids_are_read_back() {
        let account = AccountId::new(0xab).unwrap();
        assert_eq!(account.to_string(), "00000000000000ab");
        assert_eq!(account.to_string().parse(), Ok(account));
        assert_eq!("0000000000000000".parse::<AccountId>(), Err(ParseIdError));
        assert_eq!("+00000000000000a".parse::<AccountId>(), Err(ParseIdError));
        let conversation = ConversationId::new([0xc1; 16]);
        assert_eq!(conversation.to_string().parse(), Ok(conversation));
    }

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "ann", "ann-2", "a.b_c", "0", &"x".repeat(32)] {
            assert!(name_is_valid(good), "{good}");
        }
        for bad in ["", "Ann", "-a", "a-", "ä", "a b", "a\0", &"x".repeat(33)] {
            assert!(!name_is_valid(bad), "{bad}");
        }
    }
}
