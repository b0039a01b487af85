//! The figures that Tern is held to, each from runs in virtual time over several seeds.
//!
//! - [`gaps`]: how soon a waiting message arrives when a phone is back from a gap, in another network.
//! - [`handovers`]: how long a change of network without a gap stalls.
//! - [`late`]: how many messages are late because others were lost.
//! - [`starts`]: how long from the start of an application to the sent tick.
//!
//! Each is measured in a [`Case`]; [`in_profile`] measures all of them in a named one.

mod case;
mod gap;
mod late;
mod peer;
mod profile;
mod start;

pub use self::{
    case::Case,
    gap::{Gap, Handovers, gaps, handovers},
    late::{Late, late},
    peer::{Peer, PeerPath},
    profile::{GAPS_S, ProfileFigures, in_profile},
    start::{Starts, starts},
};
