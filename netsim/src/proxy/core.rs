//! The clients, their links, and what is on its way.

use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use lru::LruCache;
use socket2::SockRef;
use tokio::{net::UdpSocket, task::JoinHandle};

use super::{MAX_IN_FLIGHT_BYTES, ProxySettings, Report};
use crate::{
    lateness::Lateness,
    link::{Fate, Link, LinkError, Passage},
    schedule::Schedule,
};

/// Headers of IPv4 and UDP, which the path carries but the proxy doesn't see.
const HEADER_BYTES_V4: usize = 28;
/// The same for IPv6.
const HEADER_BYTES_V6: usize = 48;

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the client.
    Down,
    /// To the server.
    Up,
}

/// All that changes.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) stopped: bool,
    pub(super) settings: ProxySettings,
    /// Where what comes from the server leaves for clients.
    socket: Arc<UdpSocket>,
    pub(super) flows: LruCache<SocketAddr, Flow>,
    pub(super) schedule: Schedule<Parcel>,
    lateness: Lateness,
    /// Without the counts of the flows that there are.
    pub(super) report: Report,
}

#[derive(Debug)]
pub(super) struct Flow {
    /// Which client it is, in the order in which they came.
    pub(super) number: u64,
    down: Link,
    up: Link,
    pub(super) upstream: Upstream,
    /// The socket before the last rebinding. It stays open and isn't read, so that packets to it vanish instead
    /// of being answered with an ICMP message.
    pub(super) forgotten: Option<Upstream>,
}

#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) listening: JoinHandle<()>,
    /// The last byte of its address, on loopback.
    pub(super) host: u8,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// A packet on its way.
#[derive(Debug)]
pub(super) struct Parcel {
    way: Direction,
    client: SocketAddr,
    flow: u64,
    packet: Vec<u8>,
}

/// A packet whose time has come, and where it goes.
#[derive(Debug)]
pub(super) struct Due {
    socket: Arc<UdpSocket>,
    /// `None` for a socket that is connected.
    to: Option<SocketAddr>,
    packet: Vec<u8>,
}

impl Core {
    pub(super) fn new(settings: ProxySettings, socket: Arc<UdpSocket>) -> Self {
        let max_flows = NonZeroUsize::new(settings.max_flows).unwrap_or(NonZeroUsize::MIN);
        Self {
            stopped: false,
            settings,
            socket,
            flows: LruCache::new(max_flows),
            schedule: Schedule::new(MAX_IN_FLIGHT_BYTES),
            lateness: Lateness::default(),
            report: Report::default(),
        }
    }

    /// A new client; perhaps another one is forgotten for it.
    pub(super) fn open_flow(
        &mut self,
        client: SocketAddr,
        number: u64,
        upstream: Upstream,
    ) -> Result<(), LinkError> {
        let header_bytes = if client.is_ipv4() { HEADER_BYTES_V4 } else { HEADER_BYTES_V6 };
        // Each link of each client draws from a sequence of its own.
        let seed = |link: u64| self.settings.seed.rotate_left(32) ^ (number << 1 | link);
        let path = &self.settings.path;
        let down = Link::new(path.down.clone(), seed(0))?.with_header_bytes(header_bytes);
        let up = Link::new(path.up.clone(), seed(1))?.with_header_bytes(header_bytes);
        let flow = Flow { number, down, up, upstream, forgotten: None };
        if let Some((_, old)) = self.flows.push(client, flow) {
            self.report.down += old.down.counts();
            self.report.up += old.up.counts();
            self.report.evicted += 1;
        }
        self.report.flows += 1;
        Ok(())
    }

    /// A packet enters a flow's link, unless the flow was forgotten in the meantime.
    pub(super) fn enter(
        &mut self,
        now: Duration,
        way: Direction,
        client: SocketAddr,
        number: u64,
        packet: &[u8],
    ) {
        let Some(flow) = self.flows.get_mut(&client).filter(|flow| flow.number == number) else {
            return;
        };
        let now_ms = now.as_secs_f64() * 1e3;
        if self.settings.path.black_hole.is_some_and(|hole| hole.swallows(now_ms)) {
            self.report.black_hole.add(packet.len());
            return;
        }
        let link = match way {
            Direction::Down => &mut flow.down,
            Direction::Up => &mut flow.up,
        };
        let mut deliver = |passage: Passage| {
            let mut parcel = Parcel { way, client, flow: number, packet: packet.to_vec() };
            passage.corrupt(&mut parcel.packet);
            if self.schedule.push(passage.at, packet.len(), parcel).is_err() {
                self.report.overload.add(packet.len());
            }
        };
        match link.send(now, packet.len()) {
            Fate::Dropped(_) => {}
            Fate::Passes(passage) => deliver(passage),
            Fate::Twice(first, second) => {
                deliver(first);
                deliver(second);
            }
        }
    }

    /// The next packet whose time has come. One of a flow that was forgotten is lost.
    pub(super) fn due(&mut self, now: Duration) -> Option<Due> {
        loop {
            let (at, parcel) = self.schedule.pop(now)?;
            let Parcel { way, client, flow, packet } = parcel;
            let Some(flow) = self.flows.peek(&client).filter(|open| open.number == flow) else {
                continue;
            };
            self.lateness.record(now.saturating_sub(at));
            return Some(match way {
                Direction::Down => {
                    Due { socket: Arc::clone(&self.socket), to: Some(client), packet }
                }
                Direction::Up => {
                    Due { socket: Arc::clone(&flow.upstream.socket), to: None, packet }
                }
            });
        }
    }

    pub(super) fn note_unsent(&mut self, bytes: usize) {
        self.report.unsent.add(bytes);
    }

    pub(super) fn report(&self) -> Report {
        let mut report = self.report;
        for (_, flow) in &self.flows {
            report.down += flow.down.counts();
            report.up += flow.up.counts();
        }
        report.lateness = self.lateness.summary();
        report
    }
}

impl Due {
    pub(super) fn len(&self) -> usize {
        self.packet.len()
    }

    /// Hands the packet on. When the system has no room for it, it is lost.
    pub(super) fn send(&self) -> io::Result<()> {
        // Past tokio, which would have to have heard that the socket can be written to.
        let socket = SockRef::from(&*self.socket);
        match self.to {
            Some(client) => socket.send_to(&self.packet, &client.into()),
            None => socket.send(&self.packet),
        }
        .map(drop)
    }
}
