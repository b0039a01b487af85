//! What tasks and the sending thread share, and the sockets towards the server.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{net::UdpSocket, runtime::Handle};

use super::{
    ProxySettings,
    core::{Core, Direction, Upstream},
    listen_upstream, widen,
};

/// The last byte of the last loopback address that a client may be given.
const LAST_HOST: u8 = 254;

/// What tasks and the sender share.
#[derive(Debug)]
pub(super) struct Shared {
    core: Mutex<Core>,
    /// Tells the sender that something comes sooner than it thinks, or that it is over.
    sooner: Condvar,
    runtime: Handle,
    start: Instant,
}

impl Shared {
    /// Within a tokio runtime.
    pub(super) fn new(core: Core) -> Self {
        let (runtime, start) = (Handle::current(), Instant::now());
        Self { core: Mutex::new(core), sooner: Condvar::new(), runtime, start }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        // After a panic elsewhere the counts are still worth reading.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits until the next packet's time, or until something changes.
    pub(super) fn wait<'a>(
        &self,
        core: MutexGuard<'a, Core>,
        now: Duration,
    ) -> MutexGuard<'a, Core> {
        let Some(at) = core.schedule.next_at() else {
            return self.sooner.wait(core).unwrap_or_else(PoisonError::into_inner);
        };
        let pause = at.saturating_sub(now);
        self.sooner.wait_timeout(core, pause).unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn stop(&self) {
        let mut core = self.lock();
        core.stopped = true;
        // Their tasks hold this value, and end with them.
        core.flows.clear();
        self.sooner.notify_one();
    }

    /// A client has sent something; a new one gets a flow first.
    pub(super) fn client_sent(
        shared: &Arc<Self>,
        client: SocketAddr,
        packet: &[u8],
    ) -> io::Result<()> {
        let known = shared.lock().flows.get(&client).map(|flow| flow.number);
        let number = match known {
            Some(number) => number,
            None => Self::open_flow(shared, client)?,
        };
        shared.enter(Direction::Up, client, number, packet);
        Ok(())
    }

    fn open_flow(shared: &Arc<Self>, client: SocketAddr) -> io::Result<u64> {
        let mut core = shared.lock();
        if core.stopped {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let number = core.report.flows;
        let upstream = Self::upstream(shared, &core.settings, client, number, 1)?;
        core.open_flow(client, number, upstream).map_err(io::Error::other)?;
        Ok(number)
    }

    /// A socket towards the server, and a task that takes what comes to it.
    fn upstream(
        shared: &Arc<Self>,
        settings: &ProxySettings,
        client: SocketAddr,
        number: u64,
        host: u8,
    ) -> io::Result<Upstream> {
        let ip: IpAddr = match settings.to.ip() {
            IpAddr::V4(server) if server.is_loopback() => Ipv4Addr::new(127, 0, 0, host).into(),
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = std::net::UdpSocket::bind((ip, 0))?;
        socket.connect(settings.to)?;
        socket.set_nonblocking(true)?;
        let context = shared.runtime.enter();
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        drop(context);
        widen(&socket);
        let listening = listen_upstream(Arc::clone(shared), Arc::clone(&socket), client, number);
        Ok(Upstream { socket, listening: shared.runtime.spawn(listening), host })
    }

    pub(super) fn rebind(shared: &Arc<Self>, address: bool) -> io::Result<()> {
        let core = &mut *shared.lock();
        for (client, flow) in core.flows.iter_mut() {
            let host = match (address, flow.upstream.host) {
                (false, host) => host,
                (true, LAST_HOST..) => 1,
                (true, host) => host + 1,
            };
            let upstream = Self::upstream(shared, &core.settings, *client, flow.number, host)?;
            let forgotten = std::mem::replace(&mut flow.upstream, upstream);
            forgotten.listening.abort();
            flow.forgotten = Some(forgotten);
            core.report.rebinds += 1;
        }
        Ok(())
    }

    /// A packet enters a flow's link.
    pub(super) fn enter(&self, way: Direction, client: SocketAddr, flow: u64, packet: &[u8]) {
        let mut core = self.lock();
        let before = core.schedule.next_at();
        core.enter(self.now(), way, client, flow, packet);
        let sooner = match (before, core.schedule.next_at()) {
            (Some(before), Some(after)) => after < before,
            (None, after) => after.is_some(),
            (Some(_), None) => false,
        };
        drop(core);
        if sooner {
            self.sooner.notify_one();
        }
    }
}
