//! Routes: which node holds the connection of a device.

pub mod cache;

/// Where a device's connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The node that holds the connection.
    pub node: crate::cluster::NodeId,
    /// The connection's epoch: of two, the higher one is the newer.
    pub epoch: u64,
}
