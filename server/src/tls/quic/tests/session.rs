//! One session against rustls' client, without packets.

use std::any::Any;

use bytes::BytesMut;
use quinn_proto::{
    TransportErrorCode,
    crypto::{ServerConfig as _, Session as _, rustls::HandshakeData},
};
use rustls::{
    HandshakeKind,
    pki_types::ServerName,
    quic::{ClientConnection, KeyChange},
};

use super::*;

const ID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

/// The encoding of no transport parameters at all but the one that a client must send.
const PARAMETERS: &[u8] = &[0x0f, 0x00];

fn parameters() -> TransportParameters {
    TransportParameters::read(Side::Client, &mut &PARAMETERS[..]).unwrap()
}

fn client_to(name: &str, config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(config.clone(), Version::V1, name, PARAMETERS.to_vec()).unwrap()
}

/// Exchanges messages until neither has more; what the server said of each call to read.
fn exchange(session: &mut Session, client: &mut ClientConnection) -> Vec<bool> {
    let mut news = Vec::new();
    loop {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        let changed = client.write_hs(&mut up).is_some();
        if !up.is_empty() {
            news.push(session.read_handshake(&up).unwrap());
        }
        let keys = session.write_handshake(&mut down).is_some();
        if !down.is_empty() {
            client.read_hs(&down).unwrap();
        }
        if up.is_empty() && down.is_empty() && !changed && !keys {
            return news;
        }
    }
}

fn data(session: &Session) -> Option<HandshakeData> {
    let data: Box<dyn Any> = session.handshake_data()?;
    Some(*data.downcast().unwrap())
}

#[test]
fn what_rustls_has_goes_with_the_handshake_and_what_was_agreed_on_stays() {
    let fixture = Fixture::new();
    for (name, sent) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
        let server = fixture.server(16);
        let rustls = Arc::strong_count(&server.rustls);
        let mut session = server.clone().session(1, &parameters());
        let mut client = client_to(name, &Arc::new(fixture.client()));
        assert!(session.is_handshaking() && data(&session).is_none());

        let mut hello = Vec::new();
        client.write_hs(&mut hello);
        assert!(session.transport_parameters().unwrap().is_none());
        assert!(session.read_handshake(&hello).unwrap());
        assert!(session.is_handshaking() && !session.is_over());
        assert!(session.transport_parameters().unwrap().is_some());
        for _ in 0..2 {
            assert_eq!(data(&session).unwrap().protocol.as_deref(), Some(ALPN));
            assert_eq!(data(&session).unwrap().server_name.as_deref(), sent);
            // Once the handshake is over, the same.
            assert!(!exchange(&mut session, &mut client).contains(&true));
            assert!(session.is_over() && !session.is_handshaking());
        }
        assert_eq!(client.tls13_tickets_received(), 2);
        assert!(!client.is_handshaking());
        assert_eq!(Arc::strong_count(&server.rustls), rustls);
        assert!(session.peer_identity().is_none() && session.early_crypto().is_none());
        assert!(session.export_keying_material(&mut [0; 32], b"label", b"").is_err());
        assert!(session.next_1rtt_keys().is_some());
    }
    assert!(size_of::<Session>() <= 96, "{}", size_of::<Session>());
}

#[test]
fn a_session_is_resumed_and_has_the_clients_early_keys() {
    let fixture = Fixture::new();
    let config = Arc::new(fixture.client());
    let server = fixture.server(16);
    for (kind, early) in [(HandshakeKind::Full, false), (HandshakeKind::Resumed, true)] {
        let mut session = server.clone().session(1, &parameters());
        let mut client = client_to("localhost", &config);
        let mut hello = Vec::new();
        client.write_hs(&mut hello);
        assert_eq!(client.zero_rtt_keys().is_some(), early);
        session.read_handshake(&hello).unwrap();
        assert_eq!(session.early_crypto().is_some(), early);
        if let Some(keys) = client.zero_rtt_keys() {
            let mut packet = *b"hello";
            let tag = keys.packet.encrypt_in_place(7, b"header", &mut packet).unwrap();
            let mut sealed = BytesMut::from(&[&packet[..], tag.as_ref()].concat()[..]);
            let (_, key) = session.early_crypto().unwrap();
            key.decrypt(7, b"header", &mut sealed).unwrap();
            assert_eq!(&sealed[..], b"hello");
        }
        exchange(&mut session, &mut client);
        assert_eq!(client.handshake_kind(), Some(kind));
        assert_eq!(client.is_early_data_accepted(), early);
        assert!(session.is_over());
    }
}

#[test]
fn nothing_may_follow_the_handshake() {
    let fixture = Fixture::new();
    let mut session = fixture.server(16).session(1, &parameters());
    exchange(&mut session, &mut client_to("localhost", &Arc::new(fixture.client())));
    // TLS has no messages without a byte, so this is none.
    assert!(!session.read_handshake(&[]).unwrap());
    for first in 0..=u8::MAX {
        let error = session.read_handshake(&[first]).unwrap_err();
        assert_eq!(u64::from(error.code), 0x10a);
    }
    assert!(session.write_handshake(&mut Vec::new()).is_none());
}

#[test]
fn initial_keys_are_quinns() {
    let fixture = Fixture::new();
    let (ours, quinns) = (fixture.server(16), fixture.quinns_server());
    let id = ConnectionId::new(&ID);
    let seal = |keys: &crypto::Keys| {
        let mut sealed = Vec::new();
        for key in [&keys.packet.local, &keys.packet.remote] {
            let mut packet = vec![3; 100];
            key.encrypt(5, &mut packet, 20);
            sealed.push(packet);
        }
        for key in [&keys.header.local, &keys.header.remote] {
            let mut packet = vec![0xc3; 100];
            key.encrypt(16, &mut packet);
            sealed.push(packet);
        }
        sealed
    };
    let versions = quinn_proto::DEFAULT_SUPPORTED_VERSIONS.iter().copied();
    for version in versions.chain([0, 2, 0xff00_001c, 0xff00_0023, 0x6b33_43cf]) {
        let ours_of = crypto::ServerConfig::initial_keys(&*ours, version, &id);
        let Ok(expected) = quinns.initial_keys(version, &id) else {
            assert!(ours_of.is_err(), "{version:x}");
            continue;
        };
        let expected = seal(&expected);
        assert_eq!(seal(&ours_of.unwrap()), expected, "{version:x}");
        let session = ours.clone().session(version, &parameters());
        assert_eq!(seal(&session.initial_keys(&id, Side::Server)), expected);
        let client = seal(&session.initial_keys(&id, Side::Client));
        assert_eq!(
            [&client[1], &client[0], &client[3], &client[2]].map(|sealed| &sealed[..]),
            [&expected[0][..], &expected[1], &expected[2], &expected[3]]
        );
    }
}

/// The packet of RFC 9001, A.4.
#[test]
fn a_retry_packet_is_known_by_its_tag() {
    let (header, token) = (&hex("ff000000010008f067a5502a4262b5"), &hex("746f6b656e"));
    let tag = hex("04a265ba2eff4d829058fb3f0f2496ba");
    let server = Fixture::new().server(0);
    let id = ConnectionId::new(&ID);
    assert_eq!(server.retry_tag(1, &id, &[&header[..], token].concat())[..], tag);

    let session = server.clone().session(1, &parameters());
    let payload = [&token[..], &tag].concat();
    assert!(session.is_valid_retry(&id, header, &payload));
    assert!(!session.is_valid_retry(&id, header, &payload[1..]));
    assert!(!session.is_valid_retry(&id, header, &tag[1..]));
    assert!(!session.is_valid_retry(&ConnectionId::new(&ID[1..]), header, &payload));
    let draft = server.session(0xff00_001d, &parameters());
    assert!(!draft.is_valid_retry(&id, header, &payload));
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn what_rustls_would_not_take_is_refused_before_a_client_comes() {
    let fixture = Fixture::new();
    let mut tls = fixture.certificates.rustls_server_config(16).unwrap();
    tls.max_early_data_size = 1000;
    assert!(matches!(QuicTls::new(tls), Err(TlsError::Rustls(_))));

    let mut weak = (*provider()).clone();
    weak.cipher_suites.retain(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(weak))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(fixture.certificates.clone());
    assert!(matches!(QuicTls::new(tls), Err(TlsError::NoInitialCipherSuite)));

    // And if it is ever refused later, the connection ends and nothing panics.
    let refused = Err(rustls::Error::General("no".to_owned()));
    let mut session = Session::new(fixture.server(0), Version::V1, refused);
    assert!(session.is_handshaking() && session.write_handshake(&mut Vec::new()).is_none());
    let error = session.read_handshake(&[1]).unwrap_err();
    assert_eq!(error.code, TransportErrorCode::INTERNAL_ERROR);
}

#[test]
fn keys_change_twice() {
    let fixture = Fixture::new();
    let mut session = fixture.server(16).session(1, &parameters());
    let mut client = client_to("localhost", &Arc::new(fixture.client()));
    let mut hello = Vec::new();
    client.write_hs(&mut hello);
    session.read_handshake(&hello).unwrap();
    let mut flight = Vec::new();
    assert!(session.next_1rtt_keys().is_none());
    assert!(session.write_handshake(&mut flight).is_some());
    client.read_hs(&flight).unwrap();
    assert!(matches!(client.write_hs(&mut Vec::new()), Some(KeyChange::Handshake { .. })));
    flight.clear();
    assert!(session.write_handshake(&mut flight).is_some());
    // The server's keys for data are there before the client has said that it agrees.
    assert!(session.next_1rtt_keys().is_some() && session.is_handshaking());
    client.read_hs(&flight).unwrap();
    assert!(session.write_handshake(&mut Vec::new()).is_none());
    assert!(!session.is_over());
}
