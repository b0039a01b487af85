//! A client and a server of quinn's over a network in memory and in virtual time.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint,
    EndpointConfig, Event, ServerConfig, StreamEvent, StreamId, Transmit, crypto,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// How long a packet is under way at least.
const DELAY: Duration = Duration::from_millis(10);

/// Both ends, and what is between them.
pub(super) struct Pair {
    pub(super) client: Peer,
    pub(super) server: Peer,
    now: Instant,
    random: StdRng,
    /// The most by which a packet may come late: so far it can be overtaken.
    pub(super) jitter: Duration,
    /// How many packets of a hundred are lost.
    pub(super) loss: u8,
}

/// One end with at most one connection.
pub(super) struct Peer {
    endpoint: Endpoint,
    address: SocketAddr,
    connection: Option<(ConnectionHandle, Connection)>,
    /// What is under way to it, by the time at which it comes.
    coming: BTreeMap<(Instant, u64), BytesMut>,
    leaving: Vec<BytesMut>,
    /// Whether a server has every client prove its address.
    pub(super) retries: bool,
    pub(super) connected: bool,
    pub(super) lost: Option<ConnectionError>,
    stream: Option<StreamId>,
    pub(super) received: Vec<u8>,
    /// Bytes that had come when the handshake was over.
    pub(super) received_early: usize,
}

impl Pair {
    pub(super) fn new(server: Arc<dyn crypto::ServerConfig>, seed: u64) -> Self {
        let server = ServerConfig::with_crypto(server);
        Self {
            client: Peer::new(None, 1, seed),
            server: Peer::new(Some(server), 2, seed),
            now: Instant::now(),
            random: StdRng::seed_from_u64(seed),
            jitter: Duration::ZERO,
            loss: 0,
        }
    }

    pub(super) fn connect(&mut self, client: Arc<dyn crypto::ClientConfig>) {
        let config = ClientConfig::new(client);
        let address = self.server.address;
        let begun = self.client.endpoint.connect(self.now, config, address, "localhost").unwrap();
        self.client.connection = Some(begun);
    }

    /// Lets time pass until this is so, at most 20 s of it; whether it is.
    pub(super) fn until(&mut self, so: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + Duration::from_secs(20);
        while !so(self) {
            if self.now >= end {
                return false;
            }
            self.step(end);
        }
        true
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(end);
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.connected && self.server.connected
    }

    /// Does what is due, and goes on to what comes next or to the end.
    fn step(&mut self, end: Instant) {
        self.client.drive(self.now, self.server.address);
        self.server.drive(self.now, self.client.address);
        for (from, to) in [
            (&mut self.client.leaving, &mut self.server.coming),
            (&mut self.server.leaving, &mut self.client.coming),
        ] {
            for packet in from.drain(..) {
                if self.random.random_range(0..100) < self.loss {
                    continue;
                }
                let late = self.jitter.mul_f64(self.random.random());
                to.insert((self.now + DELAY + late, self.random.random()), packet);
            }
        }
        let next = [self.client.next(), self.server.next()].into_iter().flatten().min();
        self.now = next.unwrap_or(end).clamp(self.now, end);
    }
}

impl Peer {
    fn new(config: Option<ServerConfig>, port: u16, seed: u64) -> Self {
        let mut random = [port as u8; 32];
        random[..8].copy_from_slice(&seed.to_be_bytes());
        let endpoint = Endpoint::new(
            Arc::new(EndpointConfig::default()),
            config.map(Arc::new),
            false,
            Some(random),
        );
        Self {
            endpoint,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            connection: None,
            coming: BTreeMap::new(),
            leaving: Vec::new(),
            retries: false,
            connected: false,
            lost: None,
            stream: None,
            received: Vec::new(),
            received_early: 0,
        }
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection.as_mut().unwrap().1
    }

    /// Writes to the one stream, which the client opens.
    pub(super) fn send(&mut self, data: &[u8]) {
        let stream = match self.stream {
            Some(stream) => stream,
            None => self.open(),
        };
        assert_eq!(self.connection().send_stream(stream).write(data).unwrap(), data.len());
    }

    /// Opens the stream, or another one.
    pub(super) fn open(&mut self) -> StreamId {
        let stream = self.connection().streams().open(Dir::Bi).unwrap();
        self.stream = Some(stream);
        stream
    }

    fn next(&mut self) -> Option<Instant> {
        let packet = self.coming.keys().next().map(|(at, _)| *at);
        let timer = self.connection.as_mut().and_then(|(_, connection)| connection.poll_timeout());
        [packet, timer].into_iter().flatten().min()
    }

    fn drive(&mut self, now: Instant, other: SocketAddr) {
        while let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 <= now) {
            let packet = entry.remove();
            self.handle(now, other, packet);
        }
        let Some((handle, mut connection)) = self.connection.take() else { return };
        if connection.poll_timeout().is_some_and(|due| due <= now) {
            connection.handle_timeout(now);
        }
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(handle, event) {
                connection.handle_event(event);
            }
        }
        let mut buf = Vec::new();
        while let Some(transmit) = connection.poll_transmit(now, 1, &mut buf) {
            self.transmit(transmit, &mut buf);
        }
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => {
                    self.connected = true;
                    self.received_early = self.received.len();
                }
                Event::ConnectionLost { reason } => self.lost = Some(reason),
                Event::Stream(StreamEvent::Opened { dir }) => {
                    self.stream = connection.streams().accept(dir);
                    self.read(&mut connection);
                }
                Event::Stream(StreamEvent::Readable { .. }) => self.read(&mut connection),
                _ => {}
            }
        }
        self.connection = Some((handle, connection));
    }

    fn handle(&mut self, now: Instant, other: SocketAddr, packet: BytesMut) {
        let mut buf = Vec::new();
        let transmit = match self.endpoint.handle(now, other, None, None, packet, &mut buf) {
            None => return,
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                self.connection().handle_event(event);
                return;
            }
            Some(DatagramEvent::Response(transmit)) => transmit,
            Some(DatagramEvent::NewConnection(incoming)) => {
                if self.retries && incoming.may_retry() {
                    self.endpoint.retry(incoming, &mut buf).unwrap()
                } else {
                    match self.endpoint.accept(incoming, now, &mut buf, None) {
                        Ok(accepted) => {
                            self.connection = Some(accepted);
                            return;
                        }
                        Err(error) => {
                            self.lost = Some(error.cause);
                            error.response.unwrap()
                        }
                    }
                }
            }
        };
        self.transmit(transmit, &mut buf);
    }

    fn transmit(&mut self, transmit: Transmit, buf: &mut Vec<u8>) {
        self.leaving.push(BytesMut::from(&buf[..transmit.size]));
        buf.clear();
    }

    fn read(&mut self, connection: &mut Connection) {
        let Some(stream) = self.stream else { return };
        let mut stream = connection.recv_stream(stream);
        let Ok(mut chunks) = stream.read(true) else { return };
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            self.received.extend_from_slice(&chunk.bytes);
        }
        let _ = chunks.finalize();
    }
}
