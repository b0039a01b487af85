//! The simulated network: hosts, their paths, address translation, and packets under way.
//!
//! A host has paths (Wi-Fi, mobile data, a cable), each with an address of its own and a [`Link`] for
//! each direction; one of them is current, as the operating system's default route is. A packet
//! passes the sender's link up, then the receiver's link down. A path may stand behind a router
//! that translates ports and forgets, as those in front of phones do.
//!
//! All of it is decided from the seed and from tokio's clock. Links compute in nanoseconds; a packet is
//! handed to its receiver at the next full millisecond, which is how finely tokio's timers work.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use ring::digest;
use tokio::{sync::Notify, time::Instant};

use super::radio::Radio;
use crate::link::{Fate, Link, LinkError, LinkSettings, Passage};

/// Bytes that a socket holds for a process that doesn't read; what comes then is lost. Linux's default.
const SOCKET_BYTES: usize = 212_992;
/// The first port that a router gives out.
const FIRST_PORT: u16 = 20_000;

/// A host of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(u32);

/// A path of a host: one of its interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathId(u32);

/// What a path of a host is like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Access {
    /// Away from the host.
    pub up: LinkSettings,
    /// To the host.
    pub down: LinkSettings,
    /// The path is behind a router that forgets a port which has sent nothing for so long; `None`:
    /// the host has an address of its own.
    pub router_forgets_after: Option<Duration>,
}

/// What passed between a host and the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets that the host sent.
    pub packets_up: u64,
    /// Their bytes, with 28 bytes of IPv4 and UDP headers for each.
    pub bytes_up: u64,
    /// Packets that reached the host's interface.
    pub packets_down: u64,
    /// Their bytes, counted likewise.
    pub bytes_down: u64,
    /// How long the radio was awake, by the model of [`Radio`].
    pub radio_on: Duration,
    /// How often it woke.
    pub wake_ups: u64,
    /// Packets of the host that found that a router had forgotten it, and gives it another port.
    pub forgotten: u64,
}

impl Traffic {
    /// What passed since an earlier state.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            packets_up: self.packets_up - before.packets_up,
            bytes_up: self.bytes_up - before.bytes_up,
            packets_down: self.packets_down - before.packets_down,
            bytes_down: self.bytes_down - before.bytes_down,
            radio_on: self.radio_on.saturating_sub(before.radio_on),
            wake_ups: self.wake_ups - before.wake_ups,
            forgotten: self.forgotten - before.forgotten,
        }
    }
}

/// IPv4's and UDP's headers.
const HEADER_BYTES: usize = 28;

/// A handle to the network; clones share it.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Mutex<Inner>>,
    news: Arc<Notify>,
}

struct Inner {
    started: Instant,
    seed: u64,
    hosts: Vec<Host>,
    /// Which path an address belongs to. Addresses are never used again.
    addresses: BTreeMap<IpAddr, (HostId, PathId)>,
    apart: BTreeSet<(HostId, HostId)>,
    /// Packets under way.
    under_way: BinaryHeap<Reverse<UnderWay>>,
    sent: u64,
    digest: digest::Context,
    /// Why packets got lost for which no link is to blame.
    strayed: u64,
    /// What is recorded of the hosts that somebody listens to.
    taps: BTreeMap<HostId, Vec<Recorded>>,
}

struct Host {
    paths: Vec<Path>,
    /// The path that packets leave by; `None`: the host is cut off, and sending fails.
    current: Option<PathId>,
    sockets: BTreeMap<u16, Socket>,
    next_port: u16,
    /// Packets vanish in both directions, and nobody is told.
    black_hole: bool,
    radio: Radio,
    traffic: Traffic,
}

struct Path {
    address: IpAddr,
    up: Link,
    down: Link,
    /// Packets to the path's address arrive.
    open: bool,
    router: Option<Router>,
}

/// The translation of ports in front of a path.
struct Router {
    forgets_after: Duration,
    /// Outer port of each inner one, and when it last sent.
    outer: BTreeMap<u16, (u16, Duration)>,
    next: u16,
    /// How often an inner port got another outer one since the last was forgotten.
    forgotten: u64,
}

#[derive(Default)]
struct Socket {
    /// Which of the sockets that had this port one after another.
    generation: u64,
    queue: VecDeque<Datagram>,
    bytes: usize,
    waker: Option<Waker>,
}

/// A datagram that somebody has recorded on the path of its sender, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// When it was sent.
    pub at: Duration,
    /// To where.
    pub to: SocketAddr,
    /// What UDP carried.
    pub contents: Vec<u8>,
}

/// A packet that arrived.
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) contents: Vec<u8>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    at: Duration,
    /// Packets of the same moment keep their order.
    number: u64,
    stage: Stage,
    from: SocketAddr,
    to: SocketAddr,
    contents: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It is at the end of the receiver's link that the network sees.
    AtLink,
    /// It is at the receiver.
    AtHost,
}

impl Net {
    /// An empty network; time counts from now. Needs a tokio runtime, to which it adds a task.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            started: Instant::now(),
            seed,
            hosts: Vec::new(),
            addresses: BTreeMap::new(),
            apart: BTreeSet::new(),
            under_way: BinaryHeap::new(),
            sent: 0,
            digest: digest::Context::new(&digest::SHA256),
            strayed: 0,
            taps: BTreeMap::new(),
        };
        let net = Self { inner: Arc::new(Mutex::new(inner)), news: Arc::default() };
        tokio::spawn(carry(net.clone()));
        net
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing here is left half changed by a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time since the network was made.
    pub fn now(&self) -> Duration {
        self.lock().now()
    }

    /// Adds a host with one path.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if a setting of the path is out of bounds.
    pub fn add_host(&self, path: &Access) -> Result<HostId, LinkError> {
        let id = {
            let mut inner = self.lock();
            let id = HostId(u32::try_from(inner.hosts.len()).unwrap_or(u32::MAX));
            inner.hosts.push(Host {
                paths: Vec::new(),
                current: None,
                sockets: BTreeMap::new(),
                next_port: FIRST_PORT,
                black_hole: false,
                radio: Radio::lte(),
                traffic: Traffic::default(),
            });
            id
        };
        let path = self.add_path(id, path)?;
        self.use_path(id, Some(path));
        Ok(id)
    }

    /// Gives a host a further path, which is open but not in use, with an address that nobody had before.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if a setting of the path is out of bounds.
    pub fn add_path(&self, host: HostId, settings: &Access) -> Result<PathId, LinkError> {
        let mut inner = self.lock();
        let number = u32::try_from(inner.addresses.len()).unwrap_or(u32::MAX);
        let seed = inner.seed.wrapping_add(u64::from(number) << 1);
        let path = Path {
            // 10.0.0.1 and on.
            address: Ipv4Addr::from_bits(0x0a00_0001 + number).into(),
            up: Link::new(settings.up.clone(), mix(seed))?.with_header_bytes(HEADER_BYTES),
            down: Link::new(settings.down.clone(), mix(seed + 1))?.with_header_bytes(HEADER_BYTES),
            open: true,
            router: settings.router_forgets_after.map(|forgets_after| Router {
                forgets_after,
                outer: BTreeMap::new(),
                next: FIRST_PORT,
                forgotten: 0,
            }),
        };
        let address = path.address;
        let host_state = inner.host(host);
        let id = PathId(u32::try_from(host_state.paths.len()).unwrap_or(u32::MAX));
        host_state.paths.push(path);
        inner.addresses.insert(address, (host, id));
        Ok(id)
    }

    /// Which path the host's packets leave by; `None` cuts it off, and sending fails.
    pub fn use_path(&self, host: HostId, path: Option<PathId>) {
        self.lock().host(host).current = path;
    }

    /// The path that the host's packets leave by.
    pub fn current_path(&self, host: HostId) -> Option<PathId> {
        self.lock().host(host).current
    }

    /// Whether packets to a path's address arrive.
    pub fn open_path(&self, host: HostId, path: PathId, open: bool) {
        if let Some(path) = self.lock().host(host).path(path) {
            path.open = open;
        }
    }

    /// Changes both links of a path; what is in their queues stays there.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if a setting is out of bounds.
    pub fn change_path(
        &self,
        host: HostId,
        path: PathId,
        up: LinkSettings,
        down: LinkSettings,
    ) -> Result<(), LinkError> {
        if let Some(path) = self.lock().host(host).path(path) {
            path.up.change(up)?;
            path.down.change(down)?;
        }
        Ok(())
    }

    /// Whether packets from and to a host vanish without anybody being told.
    pub fn black_hole(&self, host: HostId, on: bool) {
        self.lock().host(host).black_hole = on;
    }

    /// The router before each path of a host forgets all its ports: what the host sends next comes
    /// from another one, and what is sent to the old ones is lost.
    pub fn forget_ports(&self, host: HostId) {
        for path in &mut self.lock().host(host).paths {
            if let Some(router) = &mut path.router {
                router.outer.clear();
            }
        }
    }

    /// Whether two hosts can't reach each other.
    pub fn part(&self, one: HostId, other: HostId, apart: bool) {
        let mut inner = self.lock();
        for pair in [(one, other), (other, one)] {
            if apart {
                inner.apart.insert(pair);
            } else {
                inner.apart.remove(&pair);
            }
        }
    }

    /// The host's sockets are gone, as they are when their process dies: what their owners still
    /// send goes nowhere, and nothing arrives.
    pub fn kill_sockets(&self, host: HostId) {
        self.lock().host(host).sockets.clear();
    }

    /// Records all that a host sends from now on, at the host itself, so before any link can lose it. What
    /// was recorded before is thrown away.
    pub fn tap(&self, host: HostId) {
        self.lock().taps.insert(host, Vec::new());
    }

    /// Ends the recording of a host, and what it has sent meanwhile in its order; nothing if there was none.
    pub fn untap(&self, host: HostId) -> Vec<Recorded> {
        self.lock().taps.remove(&host).unwrap_or_default()
    }

    /// The address at which a host is reached now, with this port.
    pub fn address(&self, host: HostId, port: u16) -> Option<SocketAddr> {
        let mut inner = self.lock();
        let host = inner.host(host);
        let current = host.current?;
        host.path(current).map(|path| SocketAddr::new(path.address, port))
    }

    /// What passed between a host and the network so far.
    pub fn traffic(&self, host: HostId) -> Traffic {
        let mut inner = self.lock();
        let now = inner.now();
        let host = inner.host(host);
        Traffic {
            radio_on: host.radio.on_until(now),
            wake_ups: host.radio.wake_ups(),
            forgotten: host
                .paths
                .iter()
                .filter_map(|path| path.router.as_ref())
                .map(|router| router.forgotten)
                .sum(),
            ..host.traffic
        }
    }

    /// When the last of the packets that are under way will have passed the link that it is on; now if there are
    /// none. One that waits in the queue of a slow link can take minutes.
    pub fn quiet_at(&self) -> Duration {
        let inner = self.lock();
        let last = inner.under_way.iter().map(|Reverse(packet)| packet.at).max();
        last.unwrap_or_default().max(inner.now())
    }

    /// Packets that have arrived at a host and that nobody has read yet, over all its sockets.
    pub fn unread(&self, host: HostId) -> usize {
        self.lock().host(host).sockets.values().map(|socket| socket.queue.len()).sum()
    }

    /// Packets that reached no host, for which no link is to blame.
    pub fn strayed(&self) -> u64 {
        self.lock().strayed
    }

    /// A hash over every packet so far: when, from where, to where, how long, and what became of it.
    /// Contents aren't in it, since keys and nonces of TLS come from the operating system.
    pub fn trace_hash(&self) -> String {
        let hash = self.lock().digest.clone().finish();
        hash.as_ref()[..16].iter().fold(String::new(), |mut text, byte| {
            use std::fmt::Write;
            // Writing into a string can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Opens a socket; `None`: on a port that wasn't used before.
    pub(super) fn bind(&self, host: HostId, port: Option<u16>) -> io::Result<(u16, u64)> {
        let mut inner = self.lock();
        inner.sent += 1;
        let generation = inner.sent;
        let host = inner.host(host);
        let port = match port {
            Some(port) => port,
            None => {
                let port = host.next_port;
                host.next_port = port.checked_add(1).ok_or(io::ErrorKind::AddrNotAvailable)?;
                port
            }
        };
        if host.sockets.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        host.sockets.insert(port, Socket { generation, ..Socket::default() });
        Ok((port, generation))
    }

    pub(super) fn close(&self, host: HostId, port: u16, generation: u64) {
        let mut inner = self.lock();
        let host = inner.host(host);
        if host.socket(port, generation).is_some() {
            host.sockets.remove(&port);
        }
    }

    pub(super) fn send(
        &self,
        (host, port, generation): (HostId, u16, u64),
        to: SocketAddr,
        contents: &[u8],
    ) -> io::Result<()> {
        self.lock().send(host, port, generation, to, contents)?;
        self.news.notify_one();
        Ok(())
    }

    /// What arrived at a socket, or the waker is kept until something does.
    pub(super) fn receive(
        &self,
        (host, port, generation): (HostId, u16, u64),
        waker: &Waker,
        most: usize,
        mut take: impl FnMut(Datagram),
    ) -> usize {
        let mut inner = self.lock();
        let Some(socket) = inner.host(host).socket(port, generation) else {
            return 0;
        };
        let mut taken = 0;
        while taken < most
            && let Some(datagram) = socket.queue.pop_front()
        {
            socket.bytes -= datagram.contents.len();
            take(datagram);
            taken += 1;
        }
        if taken == 0 {
            socket.waker = Some(waker.clone());
        }
        taken
    }
}

/// Brings packets on their way when their time has come.
async fn carry(net: Net) {
    loop {
        let next = {
            let mut inner = net.lock();
            let now = inner.now();
            inner.carry(now);
            inner.under_way.peek().map(|Reverse(first)| inner.started + first.at)
        };
        match next {
            None => net.news.notified().await,
            Some(at) => tokio::select! {
                biased;
                () = net.news.notified() => {}
                () = tokio::time::sleep_until(at) => {}
            },
        }
    }
}

impl Inner {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn host(&mut self, host: HostId) -> &mut Host {
        // An id comes from this network alone and hosts never go.
        &mut self.hosts[host.0 as usize]
    }

    fn send(
        &mut self,
        id: HostId,
        port: u16,
        generation: u64,
        to: SocketAddr,
        contents: &[u8],
    ) -> io::Result<()> {
        let now = self.now();
        let host = self.host(id);
        if host.socket(port, generation).is_none() {
            // Its process is dead, and what it does has no effect.
            return Ok(());
        }
        let Some(current) = host.current else {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        };
        if let Some(tape) = self.taps.get_mut(&id) {
            tape.push(Recorded { at: now, to, contents: contents.to_vec() });
        }
        let host = self.host(id);
        host.traffic.packets_up += 1;
        host.traffic.bytes_up += (contents.len() + HEADER_BYTES) as u64;
        host.radio.packet(now);
        let black_hole = host.black_hole;
        let Some(path) = host.path(current) else {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        };
        let outer = path.router.as_mut().map_or(port, |router| router.outward(port, now));
        let from = SocketAddr::new(path.address, outer);
        let fate = path.up.send(now, contents.len());
        if black_hole || !path.open {
            self.note(now, from, to, contents.len(), "hole");
            return Ok(());
        }
        self.go_on(now, Stage::AtLink, from, to, contents, fate);
        Ok(())
    }

    fn go_on(
        &mut self,
        now: Duration,
        stage: Stage,
        from: SocketAddr,
        to: SocketAddr,
        contents: &[u8],
        fate: Fate,
    ) {
        let length = contents.len();
        match fate {
            Fate::Dropped(_) => self.note(now, from, to, length, "drop"),
            Fate::Passes(passage) => self.pass(stage, from, to, contents, passage),
            Fate::Twice(first, second) => {
                self.pass(stage, from, to, contents, first);
                self.pass(stage, from, to, contents, second);
            }
        }
    }

    fn pass(
        &mut self,
        stage: Stage,
        from: SocketAddr,
        to: SocketAddr,
        contents: &[u8],
        passage: Passage,
    ) {
        let mut contents = contents.to_vec();
        passage.corrupt(&mut contents);
        self.sent += 1;
        let number = self.sent;
        self.under_way.push(Reverse(UnderWay {
            at: passage.at,
            number,
            stage,
            from,
            to,
            contents,
        }));
    }

    fn carry(&mut self, now: Duration) {
        while let Some(Reverse(first)) = self.under_way.peek()
            && first.at <= now
            && let Some(Reverse(packet)) = self.under_way.pop()
        {
            match packet.stage {
                Stage::AtLink => self.enter_link(packet),
                Stage::AtHost => self.arrive(packet),
            }
        }
    }

    /// The path of an address and its host, if a packet from `from` can get there.
    fn reachable(&mut self, from: SocketAddr, to: SocketAddr) -> Option<(HostId, PathId)> {
        let (host, path) = *self.addresses.get(&to.ip())?;
        let (sender, _) = *self.addresses.get(&from.ip())?;
        let apart = self.apart.contains(&(sender, host));
        let state = self.host(host);
        let open = !state.black_hole && state.path(path)?.open;
        (open && !apart).then_some((host, path))
    }

    fn enter_link(&mut self, packet: UnderWay) {
        let UnderWay { at, from, to, contents, .. } = packet;
        let Some((host, path)) = self.reachable(from, to) else {
            return self.stray(at, from, to, contents.len());
        };
        let Some(path) = self.host(host).path(path) else { return };
        let fate = path.down.send(at, contents.len());
        self.go_on(at, Stage::AtHost, from, to, &contents, fate);
    }

    fn arrive(&mut self, packet: UnderWay) {
        let UnderWay { at, from, to, contents, .. } = packet;
        let length = contents.len();
        let Some((id, path)) = self.reachable(from, to) else {
            return self.stray(at, from, to, length);
        };
        let host = self.host(id);
        let inner = match host.path(path).and_then(|path| path.router.as_mut()) {
            Some(router) => router.inward(to.port(), at),
            None => Some(to.port()),
        };
        let Some(port) = inner else {
            return self.stray(at, from, to, length);
        };
        host.traffic.packets_down += 1;
        host.traffic.bytes_down += (length + HEADER_BYTES) as u64;
        host.radio.packet(at);
        let Some(socket) = host.sockets.get_mut(&port) else {
            return self.stray(at, from, to, length);
        };
        if socket.bytes + length > SOCKET_BYTES {
            return self.stray(at, from, to, length);
        }
        socket.bytes += length;
        socket.queue.push_back(Datagram { from, contents });
        if let Some(waker) = socket.waker.take() {
            waker.wake();
        }
        self.note(at, from, to, length, "here");
    }

    fn stray(&mut self, at: Duration, from: SocketAddr, to: SocketAddr, length: usize) {
        self.strayed += 1;
        self.note(at, from, to, length, "lost");
    }

    fn note(
        &mut self,
        at: Duration,
        from: SocketAddr,
        to: SocketAddr,
        length: usize,
        outcome: &'static str,
    ) {
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.digest.update(&nanos.to_le_bytes());
        for end in [from, to] {
            if let IpAddr::V4(ip) = end.ip() {
                self.digest.update(&ip.octets());
            }
            self.digest.update(&end.port().to_le_bytes());
        }
        self.digest.update(&(length as u64).to_le_bytes());
        self.digest.update(outcome.as_bytes());
        tracing::trace!(at_us = nanos / 1_000, %from, %to, length, outcome, "packet");
    }
}

impl Host {
    fn path(&mut self, path: PathId) -> Option<&mut Path> {
        self.paths.get_mut(path.0 as usize)
    }

    fn socket(&mut self, port: u16, generation: u64) -> Option<&mut Socket> {
        self.sockets.get_mut(&port).filter(|socket| socket.generation == generation)
    }
}

impl Router {
    /// The outer port of an inner one, which it gets if it has none.
    fn outward(&mut self, port: u16, now: Duration) -> u16 {
        let forgets_after = self.forgets_after;
        if let Some((outer, last)) = self.outer.get_mut(&port)
            && now.saturating_sub(*last) < forgets_after
        {
            *last = now;
            return *outer;
        }
        let outer = self.next;
        // After 45,000 ports the oldest are long forgotten.
        self.next = self.next.checked_add(1).unwrap_or(FIRST_PORT);
        if self.outer.insert(port, (outer, now)).is_some() {
            self.forgotten += 1;
        }
        outer
    }

    /// The inner port of an outer one. Only what the host sends keeps a port alive, RFC 4787 (REQ-6).
    fn inward(&self, outer: u16, now: Duration) -> Option<u16> {
        self.outer
            .iter()
            .find(|(_, (port, last))| {
                *port == outer && now.saturating_sub(*last) < self.forgets_after
            })
            .map(|(inner, _)| *inner)
    }
}

/// SplitMix64's finaliser (Steele et al., OOPSLA'14): neighbouring seeds become unlike ones.
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
