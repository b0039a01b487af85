//! Faults that are planted into simulated runs: a judgement is worth what it notices.

use crate::checker::Kind;

/// A fault that is planted into a run, to see that the judgement finds it. None is in the product: they are
/// in the server's disk and in the phone, around the server and the client as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[non_exhaustive]
pub enum Fault {
    /// The server's disk answers before it has synced, and a kill of the server takes the last commits:
    /// messages are lost
    DiskSyncsNothing,
    /// The server's disk drops a message now and then, of which it says that it is stored; whoever isn't
    /// there never gets it: messages are lost
    DiskDropsMessages,
    /// A commit is now and then done in part, without what the sender's repeats are known by, and its outcome
    /// unknown: messages are repeated
    DiskTearsCommits,
    /// The server's disk swaps neighbouring messages now and then: places are shared
    DiskSwapsMessages,
    /// The server's disk changes a byte of a message now and then: unexpected messages
    DiskAltersMessages,
    /// The server's disk keeps the messages that are to be deleted: unbounded memory
    DiskDeletesNothing,
    /// Phones lose a message now and then before the user sees it: messages are lost
    PhoneDropsMessages,
    /// Phones show a message twice now and then: messages are repeated
    PhoneDoublesMessages,
    /// Phones show two messages the wrong way round now and then: messages are reordered
    PhoneSwapsMessages,
    /// Phones show what is sent as delivered: false receipts, if a recipient is killed meanwhile
    PhoneTicksDelivered,
    /// Phones show what is delivered as read: false receipts
    PhoneTicksRead,
    /// Phones show an old receipt again now and then: backward receipts
    PhoneTakesTicksBack,
    /// A phone that was killed twice has the folder that it had the first time: what it held is forgotten
    PhoneIsSetBack,
    /// Phones don't show that somebody has come: false presence
    PhoneHidesArrivals,
    /// Phones don't show that somebody has gone: false presence, if somebody is gone for more than a minute
    PhoneHidesDepartures,
}

impl Fault {
    /// All of them.
    pub fn all() -> &'static [Self] {
        clap::ValueEnum::value_variants()
    }

    /// What a run with the fault breaks, and what the judgement must name it as.
    pub fn kind(self) -> Kind {
        match self {
            Self::DiskSyncsNothing | Self::DiskDropsMessages | Self::PhoneDropsMessages => {
                Kind::Lost
            }
            Self::DiskTearsCommits | Self::PhoneDoublesMessages => Kind::Repeated,
            Self::DiskSwapsMessages => Kind::SharedSeq,
            Self::DiskAltersMessages => Kind::Unexpected,
            Self::DiskDeletesNothing => Kind::Unbounded,
            Self::PhoneSwapsMessages => Kind::Reordered,
            Self::PhoneTicksDelivered | Self::PhoneTicksRead => Kind::FalseReceipt,
            Self::PhoneTakesTicksBack => Kind::BackwardReceipt,
            Self::PhoneIsSetBack => Kind::Forgotten,
            Self::PhoneHidesArrivals | Self::PhoneHidesDepartures => Kind::FalsePresence,
        }
    }
}

impl std::fmt::Display for Fault {
    /// As options name it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match clap::ValueEnum::to_possible_value(self) {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}
