//! What a proxy has done.

use serde::Serialize;

use crate::{
    lateness::LatenessSummary,
    link::{Counts, Tally},
};

/// What has become of all packets of all clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// From the server to the clients.
    pub down: Counts,
    /// From the clients to the server.
    pub up: Counts,
    /// Swallowed by an outage, in both directions; they aren't among the ones above.
    pub black_hole: Tally,
    /// Dropped by the proxy because too much was on its way, although the link would have delivered them.
    pub overload: Tally,
    /// Refused by the operating system as they were to be handed on.
    pub unsent: Tally,
    /// Clients that there were.
    pub flows: u64,
    /// Clients that were forgotten because there were too many.
    pub evicted: u64,
    /// New addresses that the server saw, over all clients.
    pub rebinds: u64,
    /// How late packets were handed on.
    pub lateness: LatenessSummary,
}
