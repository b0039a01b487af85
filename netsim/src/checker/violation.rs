//! What can be wrong with a run, and how it is told.

use std::fmt;

use serde::Serialize;
use tern_protocol::id::{ConversationId, DeviceId};

/// Violations of one kind that a report spells out.
const SHOWN: usize = 10;

/// The promises that a run can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A message that was accepted, or that the outbox has promised to keep, isn't where it should be.
    Lost,
    /// A message came twice.
    Repeated,
    /// Messages came in another order than that of their places.
    Reordered,
    /// A message that nobody sent, that was sent elsewhere, by somebody else, or said something else.
    Unexpected,
    /// Two messages have the same place in a conversation.
    SharedSeq,
    /// A receipt said delivered or read where that can't have been so.
    FalseReceipt,
    /// A receipt said less than an earlier one.
    BackwardReceipt,
    /// A device holds less than it held before.
    Forgotten,
    /// Somebody was shown as there who was gone, or the other way round, for longer than may be.
    FalsePresence,
    /// More is kept than may be, or what should be gone is kept for ever.
    Unbounded,
    /// The record contradicts itself, so that it proves nothing.
    Malformed,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Repeated => "repeated",
            Self::Reordered => "reordered",
            Self::Unexpected => "unexpected",
            Self::SharedSeq => "shared place",
            Self::FalseReceipt => "false receipt",
            Self::BackwardReceipt => "backward receipt",
            Self::Forgotten => "forgotten",
            Self::FalsePresence => "false presence",
            Self::Unbounded => "unbounded memory",
            Self::Malformed => "malformed record",
        })
    }
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub kind: Kind,
    /// The device that saw it, where it was one.
    pub device: Option<DeviceId>,
    /// In which conversation.
    pub conversation: Option<ConversationId>,
    /// At which place there.
    pub seq: Option<u64>,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind)?;
        let mut place = Vec::new();
        place.extend(self.device.map(|device| format!("device {device}")));
        place.extend(self.conversation.map(|conversation| format!("conversation {conversation}")));
        place.extend(self.seq.map(|seq| format!("seq {seq}")));
        if !place.is_empty() {
            write!(f, "{}: ", place.join(" "))?;
        }
        f.write_str(&self.what)
    }
}

/// What the checker found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Every broken promise; empty if the run was good.
    pub violations: Vec<Violation>,
    /// Messages that have a place in a conversation.
    pub messages: usize,
    /// Messages that applications were given.
    pub deliveries: usize,
    /// Messages given again because the application was killed before it could confirm them.
    pub repeats: usize,
    /// Receipts that applications were told.
    pub receipts: usize,
}

impl Verdict {
    /// Whether every promise was kept.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    /// The kinds of promises that were broken, each once.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.violations.iter().map(|violation| violation.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages, {} deliveries ({} again after a kill), {} receipts: {}",
            self.messages,
            self.deliveries,
            self.repeats,
            self.receipts,
            match self.violations.len() {
                0 => "every promise was kept".to_owned(),
                n => format!("{n} broken promises"),
            }
        )?;
        for kind in self.kinds() {
            let of_kind = || self.violations.iter().filter(|violation| violation.kind == kind);
            for violation in of_kind().take(SHOWN) {
                write!(f, "\n  {violation}")?;
            }
            match of_kind().count() {
                count if count > SHOWN => write!(f, "\n  … {} more {kind}", count - SHOWN)?,
                _ => {}
            }
        }
        Ok(())
    }
}
