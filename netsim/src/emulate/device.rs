//! A TUN device: what a kernel sends to it comes here, and what is given to it the kernel receives.

use std::{io, net::Ipv4Addr, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{
    EmulateError,
    namespace::{Namespace, ip},
};

const NAME: &str = "tern0";
/// What Ethernet carries, in bytes. Smaller MTUs on the way are the link's business.
const MTU_BYTES: usize = 1_500;
/// Room for what the kernel sends before it is read, in packets: a link's queue is the one that is to drop.
const QUEUE_PACKETS: &str = "10000";

/// A TUN device in a namespace.
pub(super) struct Device(SyncDevice);

impl Device {
    pub(super) fn open(namespace: &Namespace, address: Ipv4Addr) -> Result<Self, EmulateError> {
        namespace.within(|| {
            let device = DeviceBuilder::new().name(NAME).enable(false).build_sync();
            let device = device.map_err(EmulateError::Tun)?;
            device.set_nonblocking(true).map_err(EmulateError::Tun)?;
            ip(&["link", "set", "lo", "up"])?;
            ip(&["addr", "add", &format!("{address}/24"), "dev", NAME])?;
            // Without an IPv6 address the kernel sends nothing of its own accord.
            ip(&["link", "set", NAME, "addrgenmode", "none"])?;
            let mtu = MTU_BYTES.to_string();
            ip(&["link", "set", NAME, "mtu", &mtu, "txqueuelen", QUEUE_PACKETS, "up"])?;
            Ok(Self(device))
        })
    }

    /// Waits for a packet, at most so long; its bytes, or `None` if none came.
    pub(super) fn receive(
        &self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> io::Result<Option<usize>> {
        match self.0.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map(Some),
        }
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.0.send(packet).map(drop)
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Device")
    }
}
