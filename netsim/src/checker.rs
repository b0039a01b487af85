//! The delivery checker: was everything delivered that had to be, once, in order, and was no lie told?
//!
//! It is given the [`History`] of a run: what each application asked for, was given and was told, over
//! all devices, in one order. It knows nothing of networks, servers or stores, so a simulator and a test
//! with real processes use the same one. What it holds a run to:
//!
//! - A message that has a place in a conversation is given to every device that takes part, but the one that
//!   sent it; in the order of places, without holes, and not again once the application has confirmed it.
//! - What is given was sent: there, by that device, with that text. What an outbox has promised to keep
//!   arrives. A send of whose outcome the sender never learnt may arrive or not, but once.
//! - A place in a conversation belongs to one message.
//! - *Delivered* up to a place is said when a device of that account holds everything up to there, *read*
//!   when an application of that account has marked it; neither ever goes back at a device.
//! - What a device's store holds it still holds after a restart.
//!
//! The checker doesn't accuse without proof. A receipt, for instance, is false if no device of the account
//! can have held so much: each [`Event::Held`] says that the device didn't hold more at any time before.

mod deliveries;
mod history;
pub mod presence;
mod receipts;
#[cfg(test)]
mod tests;
mod truth;
mod violation;

pub use history::{Entry, Event, History, Record};
pub use violation::{Kind, Verdict, Violation};

use self::{deliveries::Deliveries, receipts::Receipts, truth::Truth};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It goes on: what isn't there yet may still come.
    Running,
    /// Everybody has had time and network enough: what isn't there is lost.
    Settled,
}

/// Judges a run.
pub fn check(history: &History, progress: Progress) -> Verdict {
    let mut violations = Vec::new();
    let truth = Truth::collect(history, &mut violations);
    let mut deliveries = Deliveries::new(history, &truth);
    let mut receipts = Receipts::new(history, &truth, progress);
    for (index, record) in history.records.iter().enumerate() {
        if history.devices.contains_key(&record.device) {
            deliveries.take(index, record, &mut violations);
            receipts.take(index, record, &mut violations);
        }
    }
    deliveries.finish(progress, &mut violations);
    Verdict {
        violations,
        messages: truth.messages(),
        deliveries: deliveries.given(),
        repeats: deliveries.repeats(),
        receipts: receipts.told(),
    }
}
