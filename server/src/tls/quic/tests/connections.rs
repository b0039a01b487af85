//! Whole connections: handshakes of every kind, and key updates under traffic.

use std::time::Duration;

use quinn_proto::crypto::rustls::HandshakeData;
use rand::{RngCore, SeedableRng, rngs::StdRng};

use super::{pair::Pair, watched::Watched, *};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_client_connects_and_both_are_heard() {
    let fixture = Fixture::new();
    for retries in [false, true] {
        let mut pair = Pair::new(fixture.server(16), 1);
        pair.server.retries = retries;
        pair.connect(fixture.quinns_client());
        assert!(pair.until(Pair::is_connected));
        pair.client.send(b"hello");
        assert!(pair.until(|pair| pair.server.received == b"hello"));
        pair.server.send(b"welcome");
        assert!(pair.until(|pair| pair.client.received == b"welcome"));
        let data = pair.server.connection().crypto_session().handshake_data().unwrap();
        let data = data.downcast::<HandshakeData>().unwrap();
        assert_eq!(data.protocol.as_deref(), Some(ALPN));
        assert_eq!(data.server_name.as_deref(), Some("localhost"));
    }
}

#[test]
fn early_data_is_taken_with_a_session_that_the_server_knows() {
    let fixture = Fixture::new();
    let client = fixture.quinns_client();
    let server = fixture.server(16);
    for early in [false, true, true] {
        let mut pair = Pair::new(server.clone(), 2);
        pair.connect(client.clone());
        assert_eq!(pair.client.connection().has_0rtt(), early);
        if early {
            pair.client.send(b"early");
        }
        assert!(pair.until(Pair::is_connected));
        pair.pass(SECOND);
        assert_eq!(pair.client.connection().accepted_0rtt(), early);
        assert_eq!(pair.server.received_early, if early { 5 } else { 0 });
        pair.client.send(b", late");
        pair.pass(SECOND);
        let expected: &[u8] = if early { b"early, late" } else { b", late" };
        assert_eq!(pair.server.received, expected);
    }
}

#[test]
fn early_data_is_refused_with_a_session_that_the_server_does_not_know() {
    let fixture = Fixture::new();
    for sessions in [16, 0] {
        let client = fixture.quinns_client();
        let mut pair = Pair::new(fixture.server(16), 3);
        pair.connect(client.clone());
        assert!(pair.until(Pair::is_connected));
        pair.pass(SECOND);

        // Another server, or the same after a restart.
        let mut pair = Pair::new(fixture.server(sessions), 3);
        pair.connect(client);
        assert!(pair.client.connection().has_0rtt());
        pair.client.send(b"early");
        assert!(pair.until(Pair::is_connected));
        assert!(!pair.client.connection().accepted_0rtt());
        pair.client.open();
        pair.client.send(b"again");
        assert!(pair.until(|pair| pair.server.received == b"again"));
        assert_eq!(pair.server.received_early, 0);
    }
}

/// Who begins an update.
#[derive(Clone, Copy)]
enum By {
    Client,
    Server,
    Both,
}

/// Updates one after the other, each with traffic both ways before, during and after it.
fn update(fixture: &Fixture, quinns: bool, by: &[By], jitter: Duration, loss: u8, seed: u64) {
    let server: Arc<dyn crypto::ServerConfig> =
        if quinns { fixture.quinns_server() } else { fixture.server(16) };
    let server = Watched::counting(server);
    let client = Watched::counting(fixture.quinns_client());
    let mut pair = Pair::new(server.clone(), seed);
    pair.connect(client.clone());
    assert!(pair.until(Pair::is_connected));
    (pair.jitter, pair.loss) = (jitter, loss);
    let mut random = StdRng::seed_from_u64(seed);
    let (mut up, mut down, mut updates) = (vec![0; 4], Vec::new(), 0);
    pair.client.send(&up);
    assert!(pair.until(|pair| pair.server.received.len() == 4));
    for (done, by) in by.iter().cycle().take(12).enumerate() {
        for part in 0..3 {
            let mut data = vec![0; 6000];
            random.fill_bytes(&mut data);
            pair.client.send(&data);
            up.extend_from_slice(&data);
            random.fill_bytes(&mut data);
            pair.server.send(&data);
            down.extend_from_slice(&data);
            // Some of it is still under way, in the phase before.
            pair.pass(Duration::from_millis(7));
            if part == 1 {
                if matches!(by, By::Client | By::Both) {
                    pair.client.connection().force_key_update();
                }
                if matches!(by, By::Server | By::Both) {
                    pair.server.connection().force_key_update();
                }
            }
        }
        let all = |pair: &Pair| pair.server.received == up && pair.client.received == down;
        assert!(pair.until(all), "update {done}: {:?} {:?}", pair.client.lost, pair.server.lost);
        // Until the keys of the phase before are forgotten, no other update may begin.
        pair.pass(5 * SECOND);
        // quinn adds one of its own now and then.
        assert!(server.updates() > updates, "update {done} wasn't made");
        assert_eq!(client.updates(), server.updates());
        updates = server.updates();
    }
}

#[test]
fn keys_are_updated_by_the_client() {
    update(&Fixture::new(), false, &[By::Client], Duration::ZERO, 0, 4);
}

#[test]
fn keys_are_updated_by_the_server() {
    update(&Fixture::new(), false, &[By::Server], Duration::ZERO, 0, 5);
}

#[test]
fn keys_are_updated_by_both_at_once() {
    update(&Fixture::new(), false, &[By::Both], Duration::ZERO, 0, 6);
}

#[test]
fn packets_that_are_lost_and_overtaken_do_not_hinder_updates() {
    let fixture = Fixture::new();
    for seed in 10..18 {
        // The first time with quinn's TLS at the server, so that the test is known to be fair.
        let quinns = seed == 10;
        let by = [By::Client, By::Server, By::Both];
        update(&fixture, quinns, &by, Duration::from_millis(40), 5, seed);
    }
}
