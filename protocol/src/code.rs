//! The error registry of SPEC.md chapter 9.

use std::fmt;

macro_rules! codes {
    ($($value:literal $name:ident $text:literal $what:literal)*) => {
        /// A code of the error registry, or one that this revision doesn't know.
        ///
        /// Used as a QUIC application error code and inside frames.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $what] $name,)*
            /// A code that isn't in this revision's registry; to be treated like
            /// [`Code::Internal`].
            Unknown(u16),
        }

        impl Code {
            /// Every code of the registry, in order.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The number in the registry.
            pub const fn value(self) -> u16 {
                match self { $(Code::$name => $value,)* Code::Unknown(value) => value }
            }

            /// The name in the registry.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$name => $text,)* Code::Unknown(_) => "unknown" }
            }

            /// What it means, for people.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Code::$name => $what,)*
                    Code::Unknown(_) => "a code that this revision doesn't know",
                }
            }
        }

        impl From<u16> for Code {
            fn from(value: u16) -> Self {
                match value { $($value => Code::$name,)* other => Code::Unknown(other) }
            }
        }
    };
}

codes! {
    0x000 NoError "noError" "normal end"
    0x100 Internal "internal" "the other end failed; try again later"
    0x101 MalformedFrame "malformedFrame" "a frame can't be decoded"
    0x102 FrameTooLarge "frameTooLarge" "a frame exceeds the limit in force"
    0x103 UnknownFrame "unknownFrame" "a kind of frame that this revision doesn't have"
    0x104 UnexpectedFrame "unexpectedFrame" "a frame in the wrong place or state"
    0x105 HelloTimeout "helloTimeout" "no acceptable hello in time"
    0x106 TooManyHellos "tooManyHellos" "three hellos were rejected"
    0x107 Replaced "replaced" "the device has a newer connection"
    0x108 DeviceRemoved "deviceRemoved" "the device was removed"
    0x109 GoingAway "goingAway" "the server stops; connect again"
    0x10a Overloaded "overloaded" "too much to do; try again after a while"
    0x10b AckBackwards "ackBackwards" "an ack was lower than one before"
    0x10c AckBeyondHead "ackBeyondHead" "an ack covers what was never sent"
    0x10d MarkBeyondHead "markBeyondHead" "a read mark covers what doesn't exist"
    0x200 UnknownConversation "unknownConversation" "no such conversation for this account"
    0x201 DuplicateStream "duplicateStream" "there is an uplink for this conversation already"
    0x202 StreamIdle "streamIdle" "silent for too long; open another when needed"
    0x203 UnknownStream "unknownStream" "a kind of stream that the receiver doesn't know"
    0x204 Gap "gap" "a downlink starts beyond what the client holds"
    0x300 UnsupportedRevision "unsupportedRevision" "speak a lower revision"
    0x301 BadSignature "badSignature" "the signature doesn't fit key, nonce, certificate and ids"
    0x302 UnknownDevice "unknownDevice" "there is no such device"
    0x303 TicketInvalid "ticketInvalid" "forget the ticket, sign in"
    0x304 TicketExpired "ticketExpired" "the ticket is too old, sign in"
    0x305 NameInvalid "nameInvalid" "a name is 1 to 32 of a-z 0-9 . _ -"
    0x306 NameTaken "nameTaken" "another account has this name"
    0x307 RegistrationClosed "registrationClosed" "this server takes no registrations"
    0x308 CredentialNeeded "credentialNeeded" "an invite, a token or a link is needed"
    0x309 CredentialInvalid "credentialInvalid" "the invite, token or link isn't valid here"
    0x30a RateLimited "rateLimited" "too often; try again later"
    0x30b KeyInvalid "keyInvalid" "the device key can't be used"
    0x310 CounterGap "counterGap" "the counter isn't the next one"
    0x311 CounterReused "counterReused" "the counter was used for another message"
    0x312 WindowExceeded "windowExceeded" "too far ahead of settled"
    0x313 EnvelopeSize "envelopeSize" "the envelope is empty or too long"
    0x314 MailboxFull "mailboxFull" "too much is waiting there"
    0x315 PeerGone "peerGone" "the other account has no device any more"
    0x320 UnknownName "unknownName" "no such account"
    0x321 UnknownRequest "unknownRequest" "a request that this revision doesn't have"
    0x322 TooMany "tooMany" "a limit would be exceeded"
    0x323 NotAllowed "notAllowed" "not for this device"
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:03x}): {}", self.name(), self.value(), self.meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_the_unknown_is_kept() {
        for &code in Code::ALL {
            assert_eq!(Code::from(code.value()), code);
        }
        assert_eq!(Code::from(0x7777).value(), 0x7777);
    }

    #[test]
    fn the_registry_is_that_of_the_specification() {
        let spec = include_str!("../SPEC.md");
        let rows: Vec<(u16, &str)> = spec
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| 0x")?.split('|').map(str::trim);
                let value = u16::from_str_radix(cells.next()?, 16).ok()?;
                Some((value, cells.next()?))
            })
            .collect();
        let code: Vec<(u16, &str)> = Code::ALL.iter().map(|c| (c.value(), c.name())).collect();
        assert_eq!(rows, code);
    }
}
