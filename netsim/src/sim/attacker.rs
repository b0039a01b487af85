//! Somebody on the path who records what others send, and sends it again.

use std::{io, task::Waker};

use super::{Access, HostId, Net, Recorded};
use crate::link::LinkError;

/// A host that sends again what it has recorded of others. It has no keys, so this is all that it can do.
pub struct Attacker {
    net: Net,
    host: HostId,
    /// Its sockets, one for each replay: port and generation.
    sockets: Vec<(u16, u64)>,
    sent_bytes: u64,
}

impl Attacker {
    /// A host with a path of its own, and so with an address of its own.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if a setting of the path is out of bounds.
    pub fn new(net: &Net, access: &Access) -> Result<Self, LinkError> {
        let host = net.add_host(access)?;
        Ok(Self { net: net.clone(), host, sockets: Vec::new(), sent_bytes: 0 })
    }

    /// Sends what was recorded once more, all of it at once and in its order, to where it was sent, from a port
    /// that wasn't used before.
    ///
    /// # Errors
    ///
    /// [`io::Error`] if the host has no port left or no network.
    pub fn replay(&mut self, recorded: &[Recorded]) -> io::Result<()> {
        let (port, generation) = self.net.bind(self.host, None)?;
        self.sockets.push((port, generation));
        for datagram in recorded {
            self.net.send((self.host, port, generation), datagram.to, &datagram.contents)?;
            self.sent_bytes += datagram.contents.len() as u64;
        }
        Ok(())
    }

    /// Bytes of the datagrams that it has sent so far, without headers of IP and UDP.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// What came back since the last call.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        for &(port, generation) in &self.sockets {
            let socket = (self.host, port, generation);
            self.net.receive(socket, Waker::noop(), usize::MAX, |datagram| {
                heard.push(datagram.contents);
            });
        }
        heard
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        for &(port, generation) in &self.sockets {
            self.net.close(self.host, port, generation);
        }
    }
}
