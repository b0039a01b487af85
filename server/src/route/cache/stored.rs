//! A route as memory and disk keep it.

use std::io::{Read, Write};

use foyer::Code;

use super::Route;
use crate::cluster::NodeId;

/// A route and until when it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) route: Route,
    /// Milliseconds since the Unix epoch.
    pub(super) expires_ms: u64,
}

/// Node, epoch and expiry, little-endian. Another layout needs another version of the ledger's file.
const BYTES: usize = 24;

impl Code for Stored {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let Self { route: Route { node, epoch }, expires_ms } = *self;
        for number in [node.get(), epoch, expires_ms] {
            writer.write_all(&number.to_le_bytes()).map_err(foyer::Error::io_error)?;
        }
        Ok(())
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut numbers = [0; 3];
        for number in &mut numbers {
            let mut bytes = [0; 8];
            reader.read_exact(&mut bytes).map_err(foyer::Error::io_error)?;
            *number = u64::from_le_bytes(bytes);
        }
        let [node, epoch, expires_ms] = numbers;
        let no_node = || foyer::Error::new(foyer::ErrorKind::Parse, "a route to node 0");
        let route = Route { node: NodeId::new(node).ok_or_else(no_node)?, epoch };
        Ok(Self { route, expires_ms })
    }

    fn estimated_size(&self) -> usize {
        BYTES
    }
}
