//! Real connections behind a balancer, in memory: a phone whose address changes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{
    ClientConfig, Connection, ConnectionEvent, ConnectionHandle, DatagramEvent, Dir, Endpoint,
    EndpointConfig, Event, ServerConfig,
};
use ring::hmac;

use super::*;
use crate::{clock::Clock, config::Config, gateway, tls::Certificates};

/// One end: an end point and its connections.
struct Side {
    end_point: Endpoint,
    connections: HashMap<ConnectionHandle, Connection>,
    /// Bytes of streams that have come.
    received: Vec<u8>,
    connected: bool,
}

impl Side {
    fn new(config: EndpointConfig, server: Option<ServerConfig>) -> Self {
        Self {
            end_point: Endpoint::new(Arc::new(config), server.map(Arc::new), true, Some([1; 32])),
            connections: HashMap::new(),
            received: Vec::new(),
            connected: false,
        }
    }

    fn hear(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let mut buffer = Vec::new();
        match self.end_point.handle(now, from, None, None, datagram.into(), &mut buffer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => self.tell(handle, event),
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.end_point.accept(incoming, now, &mut buffer, None);
                let (handle, connection) = accepted.map_err(|error| error.cause).unwrap();
                self.connections.insert(handle, connection);
            }
            // A reset, or nothing: what a datagram that went astray is worth.
            Some(DatagramEvent::Response(_)) | None => {}
        }
        self.settle();
    }

    fn tell(&mut self, handle: ConnectionHandle, event: ConnectionEvent) {
        if let Some(connection) = self.connections.get_mut(&handle) {
            connection.handle_event(event);
        }
    }

    /// Lets connections and end point talk to each other, and takes what has come.
    fn settle(&mut self) {
        for (&handle, connection) in &mut self.connections {
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = self.end_point.handle_event(handle, event) {
                    connection.handle_event(event);
                }
            }
            while let Some(event) = connection.poll() {
                match event {
                    Event::Connected => self.connected = true,
                    Event::ConnectionLost { reason } => panic!("{reason}"),
                    _ => {}
                }
            }
            while let Some(stream) = connection.streams().accept(Dir::Bi) {
                let mut stream = connection.recv_stream(stream);
                let mut chunks = stream.read(true).unwrap();
                while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                    self.received.extend(&chunk.bytes[..]);
                }
                let _ = chunks.finalize();
            }
        }
    }

    /// The datagrams that want to leave.
    fn speak(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        for connection in self.connections.values_mut() {
            let mut buffer = Vec::new();
            while let Some(transmit) = connection.poll_transmit(now, 1, &mut buffer) {
                datagrams.push(buffer[..transmit.size].to_vec());
                buffer.clear();
            }
        }
        self.settle();
        datagrams
    }

    fn wake(&mut self, now: Instant) {
        for connection in self.connections.values_mut() {
            connection.handle_timeout(now);
        }
        self.settle();
    }
}

/// A phone, and servers behind a balancer.
struct World {
    now: Instant,
    phone: Side,
    servers: Vec<(SocketAddr, Side)>,
    balancer: Balancer,
    /// Whether the balancer reads ids.
    reads_ids: bool,
    addresses: Addresses,
}

impl World {
    fn new(reads_ids: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Config::default();
        settings.data.dir = dir.path().to_owned();
        let certificates = Certificates::open(&settings, Clock::system()).unwrap();
        let ids = LbConfig::new(0, 8, 8, Some([2; 16])).unwrap();
        let servers = (1..=3).map(|number| {
            let generator = generator(&ids, id_of(number).as_bytes(), number.into());
            let mut config = reset_key();
            config.cid_generator(move || Box::new(generator.clone()));
            let server = gateway::server_config(&settings, &certificates).unwrap();
            (address_of(number), Side::new(config, Some(server)))
        });
        Self {
            now: Instant::now(),
            servers: servers.collect(),
            phone: Side::new(reset_key(), None),
            balancer: Balancer::new([ids.clone()], super::servers(3)),
            reads_ids,
            addresses: addresses(1000),
        }
        .connect(&settings)
    }

    fn connect(mut self, settings: &Config) -> Self {
        let tls = crate::tls::tests::client(&settings.data.dir, tern_protocol::ALPN);
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let config = ClientConfig::new(Arc::new(tls));
        let service = self.addresses.service;
        let end_point = &mut self.phone.end_point;
        let (handle, connection) =
            end_point.connect(self.now, config, service, "localhost").unwrap();
        self.phone.connections.insert(handle, connection);
        self.run_until(|world| world.phone.connected);
        self
    }

    fn route(&self, datagram: &[u8]) -> SocketAddr {
        let route = match self.reads_ids {
            true => self.balancer.route(&self.addresses, datagram),
            false => self.balancer.route_by_addresses(&self.addresses),
        };
        route.unwrap().address()
    }

    /// Carries datagrams about, 10 ms after 10 ms, until it is so; false if it isn't after 5 s.
    fn run_until(&mut self, mut is_so: impl FnMut(&Self) -> bool) -> bool {
        for _ in 0..500 {
            for datagram in self.phone.speak(self.now) {
                let to = self.route(&datagram);
                let (_, server) = self.servers.iter_mut().find(|(at, _)| *at == to).unwrap();
                server.hear(self.now, self.addresses.client, &datagram);
            }
            for (_, server) in &mut self.servers {
                for datagram in server.speak(self.now) {
                    self.phone.hear(self.now, self.addresses.service, &datagram);
                }
            }
            if is_so(self) {
                return true;
            }
            self.now += Duration::from_millis(10);
            self.phone.wake(self.now);
            self.servers.iter_mut().for_each(|(_, server)| server.wake(self.now));
        }
        false
    }

    fn say(&mut self, text: &[u8]) {
        for connection in self.phone.connections.values_mut() {
            let stream = connection.streams().open(Dir::Bi).unwrap();
            assert_eq!(connection.send_stream(stream).write(text).unwrap(), text.len());
            connection.send_stream(stream).finish().unwrap();
        }
    }

    /// What the server heard that has a connection.
    fn heard(&self) -> Vec<u8> {
        let mut with = self.servers.iter().filter(|(_, server)| !server.connections.is_empty());
        let (_, server) = with.next().unwrap();
        assert!(with.next().is_none(), "two servers have the phone");
        server.received.clone()
    }

    /// Gives the phone another address, from which a balancer that goes by addresses reaches another server.
    fn move_away(&mut self) {
        let before = self.balancer.route_by_addresses(&self.addresses);
        while self.balancer.route_by_addresses(&self.addresses) == before {
            let port = self.addresses.client.port() + 1;
            self.addresses.client.set_port(port);
        }
    }
}

fn reset_key() -> EndpointConfig {
    EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &[3; 64])))
}

#[test]
fn a_phone_whose_address_changes_stays_on_its_node() {
    let mut world = World::new(true);
    for text in [b"one", b"two", b"six"] {
        world.say(text);
        assert!(world.run_until(|world| world.heard().ends_with(text)), "{text:?}");
        world.move_away();
    }
    assert_eq!(world.heard(), b"onetwosix");
}

#[test]
fn by_addresses_alone_it_comes_to_a_node_that_does_not_know_it() {
    let mut world = World::new(false);
    world.say(b"one");
    assert!(world.run_until(|world| world.heard() == b"one"));
    world.move_away();
    world.say(b"two");
    assert!(!world.run_until(|world| world.heard() != b"one"));
}

#[test]
fn every_id_that_a_phone_is_given_leads_to_its_node() {
    let mut world = World::new(true);
    for texts in 1..=6 {
        world.say(b"hi");
        assert!(world.run_until(|world| world.heard().len() == 2 * texts), "{texts}");
        // What a phone does that notices: it uses another id from here on, and is given a new one.
        world.phone.connections.values_mut().for_each(Connection::local_address_changed);
        world.move_away();
    }
}
