//! The figures that Tern is held to, each from runs in virtual time over several seeds.
//!
//! - [`gaps`]: how soon a waiting message arrives when a phone is back from a gap, in another network.
//! - [`handovers`]: how long a change of network without a gap stalls.
//! - [`late`]: how many messages are late because others were lost.
//! - [`starts`]: how long from the start of an application to the sent tick.

mod gap;
mod late;
mod start;

pub use self::{
    gap::{Gap, Handovers, gaps, handovers},
    late::{Late, late},
    start::{Starts, starts},
};

use crate::{link::LinkSettings, scenario::Phones};

/// Both links of each phone: half the round trip each way, and a loss.
fn phones(count: usize, rtt_ms: f64, loss: f64) -> Phones {
    let link = LinkSettings {
        delay_ms: rtt_ms / 2.0,
        loss: crate::link::Loss::Independent { probability: loss },
        ..LinkSettings::default()
    };
    Phones { count, up: Some(link.clone()), down: Some(link), ..Phones::default() }
}
