//! Keys of later phases that are made when they are used, beside rustls' that are made ahead.

use std::{thread, time::Duration};

use bytes::BytesMut;
use proptest::prelude::*;
use quinn_proto::crypto::PacketKey;
use rustls::{
    CipherSuite, SupportedCipherSuite,
    pki_types::ServerName,
    quic::{ClientConnection, KeyChange, PacketKeySet, Secrets, ServerConnection, Version},
};

use super::{super::updates::Updates, *};

/// What both ends have after a handshake with this cipher suite: secrets, and the server's current key.
struct Agreed {
    client: Secrets,
    server: Secrets,
    current: Box<dyn rustls::quic::PacketKey>,
}

fn agree(suite: SupportedCipherSuite) -> Agreed {
    let fixture = Fixture::new();
    let server = fixture.certificates.rustls_server_config(0).unwrap();
    let mut provider = (*provider()).clone();
    provider.cipher_suites = vec![suite];
    let client = fixture.client_with(Arc::new(provider));
    let name = ServerName::try_from("localhost").unwrap();
    let mut client =
        ClientConnection::new(Arc::new(client), Version::V1, name, vec![0x0f, 0]).unwrap();
    let mut server = ServerConnection::new(Arc::new(server), Version::V1, vec![]).unwrap();
    let (mut of_client, mut of_server) = (None, None);
    while of_client.is_none() || of_server.is_none() {
        let mut flight = Vec::new();
        if let Some(KeyChange::OneRtt { next, .. }) = client.write_hs(&mut flight) {
            of_client = Some(next);
        }
        server.read_hs(&flight).unwrap();
        flight.clear();
        if let Some(KeyChange::OneRtt { next, keys }) = server.write_hs(&mut flight) {
            of_server = Some((next, keys.local.packet));
        }
        client.read_hs(&flight).unwrap();
    }
    assert_eq!(client.negotiated_cipher_suite(), Some(suite));
    let (server, current) = of_server.unwrap();
    Agreed { client: of_client.unwrap(), server, current }
}

/// A packet with its tag.
fn seal(key: &dyn PacketKey, number: u64) -> Vec<u8> {
    let mut packet = vec![number as u8; 60 + key.tag_len()];
    key.encrypt(number, &mut packet, 20);
    packet
}

fn seal_eagerly(key: &dyn rustls::quic::PacketKey, number: u64) -> Vec<u8> {
    let mut packet = vec![number as u8; 60];
    let (header, payload) = packet.split_at_mut(20);
    let tag = key.encrypt_in_place(number, header, payload).unwrap();
    packet.extend_from_slice(tag.as_ref());
    packet
}

fn open(key: &dyn PacketKey, number: u64, packet: &[u8]) -> bool {
    let mut payload = BytesMut::from(&packet[20..]);
    let opened = key.decrypt(number, &packet[..20], &mut payload).is_ok();
    assert!(!opened || payload[..] == [number as u8; 40]);
    opened
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Encrypt,
    Decrypt,
    Forged,
    FromBefore,
    Next,
}

fn step() -> impl Strategy<Value = Step> {
    use Step::{Decrypt, Encrypt, Forged, FromBefore, Next};
    prop_oneof![Just(Encrypt), Just(Decrypt), Just(Forged), Just(FromBefore), Just(Next)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..Default::default() })]

    /// Whatever is used and left out, each phase has the keys that rustls makes for it.
    #[test]
    fn lazy_keys_are_the_eager_ones(steps in prop::collection::vec(step(), 1..60)) {
        for suite in &provider().cipher_suites {
            if suite.tls13().is_none() {
                continue;
            }
            let mut agreed = agree(*suite);
            let mut updates = Updates::new(agreed.server.clone(), &*agreed.current);
            let mut lazy = updates.next();
            let mut before = None;
            let mut server: PacketKeySet = agreed.server.next_packet_keys();
            let mut client: PacketKeySet = agreed.client.next_packet_keys();
            let mut client_before = None;
            for (number, step) in steps.iter().enumerate() {
                let number = number as u64;
                match step {
                    Step::Encrypt => {
                        let sealed = seal(&*lazy.local, number);
                        prop_assert_eq!(&sealed, &seal_eagerly(&*server.local, number));
                        let (header, payload) = sealed.split_at(20);
                        let mut payload = payload.to_vec();
                        prop_assert!(client.remote.decrypt_in_place(number, header, &mut payload).is_ok());
                    }
                    Step::Decrypt => {
                        prop_assert!(open(&*lazy.remote, number, &seal_eagerly(&*client.local, number)));
                    }
                    Step::Forged => {
                        let mut packet = seal_eagerly(&*client.local, number);
                        packet[30] ^= 1;
                        prop_assert!(!open(&*lazy.remote, number, &packet));
                    }
                    // As a packet that was overtaken by the first of the next phase.
                    Step::FromBefore => {
                        let keys: Option<&KeyPair<Box<dyn PacketKey>>> = before.as_ref();
                        let eager: Option<&PacketKeySet> = client_before.as_ref();
                        if let (Some(keys), Some(eager)) = (keys, eager) {
                            let packet = seal_eagerly(&*eager.local, number);
                            prop_assert!(open(&*keys.remote, number, &packet));
                            prop_assert!(!open(&*lazy.remote, number, &packet));
                        }
                    }
                    Step::Next => {
                        before = Some(std::mem::replace(&mut lazy, updates.next()));
                        server = agreed.server.next_packet_keys();
                        client_before =
                            Some(std::mem::replace(&mut client, agreed.client.next_packet_keys()));
                    }
                }
            }
        }
    }
}

fn a_suite() -> SupportedCipherSuite {
    let suites = provider().cipher_suites.clone();
    suites.into_iter().find(|s| s.suite() == CipherSuite::TLS13_AES_256_GCM_SHA384).unwrap()
}

#[test]
fn keys_are_made_at_their_first_use_and_not_before() {
    let agreed = agree(a_suite());
    let mut updates = Updates::new(agreed.server, &*agreed.current);
    for phase in 0..4 {
        let keys = updates.next();
        for key in [&keys.local, &keys.remote] {
            assert_eq!(key.tag_len(), 16);
            assert_eq!(key.confidentiality_limit(), agreed.current.confidentiality_limit());
            assert_eq!(key.integrity_limit(), agreed.current.integrity_limit());
        }
        assert!(!updates.last_is_derived());
        match phase % 3 {
            0 => drop(seal(&*keys.local, 0)),
            1 => assert!(!open(&*keys.remote, 0, &[0; 76])),
            // Never used: the phase after it must not get its secrets.
            _ => continue,
        }
        assert!(updates.last_is_derived());
    }
}

#[test]
fn threads_that_use_a_phase_at_once_get_the_same_keys() {
    let mut agreed = agree(a_suite());
    let mut updates = Updates::new(agreed.server.clone(), &*agreed.current);
    for _ in 0..20 {
        let lazy = updates.next();
        let eager = agreed.server.next_packet_keys();
        let expected = seal_eagerly(&*eager.local, 9);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    thread::sleep(Duration::from_micros(50));
                    assert_eq!(seal(&*lazy.local, 9), expected);
                });
            }
        });
    }
}
