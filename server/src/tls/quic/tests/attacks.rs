//! Clients that say to TLS what they shouldn't: refused with the same errors as by quinn's TLS.

use quinn_proto::{ConnectionError, TransportErrorCode};
use rand::{RngCore, SeedableRng, rngs::StdRng};

use super::{pair::Pair, watched::Watched, *};

const INITIAL: usize = 0;
const HANDSHAKE: usize = 1;
const DATA: usize = 2;

/// How the connection ended: the server's reason, and what the client was told.
fn end(
    server: Arc<dyn crypto::ServerConfig>,
    client: Arc<dyn crypto::ClientConfig>,
) -> Option<(TransportErrorCode, TransportErrorCode)> {
    let mut pair = Pair::new(server, 1);
    pair.connect(client);
    if !pair.until(|pair| pair.client.lost.is_some() && pair.server.lost.is_some()) {
        return None;
    }
    match (pair.server.lost, pair.client.lost) {
        (
            Some(ConnectionError::TransportError(error)),
            Some(ConnectionError::ConnectionClosed(close)),
        ) => Some((error.code, close.error_code)),
        other => panic!("{other:?}"),
    }
}

/// The alert with which a connection ends, the same with quinn's TLS, or nothing if it doesn't end.
fn alert(fixture: &Fixture, client: &Arc<dyn crypto::ClientConfig>) -> Option<u64> {
    let (code, told) = end(fixture.server(16), client.clone())?;
    assert_eq!(end(fixture.quinns_server(), client.clone()), Some((code, told)));
    assert_eq!(code, told);
    Some(u64::from(code))
}

/// A client that says something else at one level.
fn saying(fixture: &Fixture, level: usize, what: &[u8]) -> Arc<dyn crypto::ClientConfig> {
    let what = what.to_vec();
    Watched::changing(fixture.quinns_client(), move |at, said| {
        if at == level {
            *said = what.clone();
        }
    })
}

#[test]
fn messages_after_the_handshake_end_the_connection() {
    let fixture = Fixture::new();
    let messages: [&[u8]; 6] = [
        // KeyUpdate, with and without a request for another (RFC 9001, 6).
        &[24, 0, 0, 1, 0],
        &[24, 0, 0, 1, 1],
        // Finished, once more.
        &[&[20, 0, 0, 32][..], &[7; 32]].concat(),
        // EndOfEarlyData, which QUIC doesn't have.
        &[5, 0, 0, 0],
        // Certificate, which nobody asked for.
        &[11, 0, 0, 4, 0, 0, 0, 0],
        // No message of TLS.
        &[99, 0, 0, 1, 0],
    ];
    for message in messages {
        assert_eq!(alert(&fixture, &saying(&fixture, DATA, message)), Some(0x10a), "{message:?}");
    }
}

#[test]
fn a_part_of_a_message_after_the_handshake_is_not_waited_for() {
    let fixture = Fixture::new();
    for part in [&[24][..], &[24, 0, 0, 1], &[1, 0xff, 0xff, 0xff, 3], &[0; 700]] {
        let (code, told) = end(fixture.server(16), saying(&fixture, DATA, part)).unwrap();
        assert_eq!((u64::from(code), u64::from(told)), (0x10a, 0x10a));
    }
}

#[test]
fn what_is_no_handshake_is_refused_as_by_quinn() {
    let fixture = Fixture::new();
    let mut random = StdRng::seed_from_u64(8);
    for level in [INITIAL, HANDSHAKE] {
        let mut ended = 0;
        for length in [1, 4, 40, 400, 900] {
            for kind in [random.next_u32() as u8, 1, 20, 24] {
                let mut garbage = vec![0; length];
                random.fill_bytes(&mut garbage);
                garbage[0] = kind;
                if length >= 4 {
                    // A length that fits, so that it isn't only waited for.
                    let body = (length - 4) as u32;
                    garbage[1..4].copy_from_slice(&body.to_be_bytes()[1..]);
                }
                let client = saying(&fixture, level, &garbage);
                let (ours, quinns) =
                    (end(fixture.server(16), client.clone()), end(fixture.quinns_server(), client));
                assert_eq!(ours, quinns, "{garbage:?} at {level}");
                ended += u32::from(ours.is_some());
            }
        }
        assert!(ended > 10, "{ended} at {level}");
    }
}

#[test]
fn a_wrong_end_of_the_handshake_is_refused() {
    let fixture = Fixture::new();
    let at = |level, change: fn(&mut Vec<u8>)| -> Arc<dyn crypto::ClientConfig> {
        Watched::changing(fixture.quinns_client(), move |at, said| {
            if at == level {
                change(said);
            }
        })
    };
    // A Finished that proves nothing: decrypt_error.
    let wrong = at(HANDSHAKE, |said| said.iter_mut().last().into_iter().for_each(|b| *b ^= 1));
    assert_eq!(alert(&fixture, &wrong), Some(0x133));
    // More behind it, whole or not: unexpected_message.
    let more = at(HANDSHAKE, |said| said.extend([24, 0, 0, 1, 0]));
    assert_eq!(alert(&fixture, &more), Some(0x10a));
    let part = at(HANDSHAKE, |said| said.push(24));
    assert_eq!(alert(&fixture, &part), Some(0x10a));
}

#[test]
fn a_client_must_speak_terns_protocol() {
    let fixture = Fixture::new();
    for offered in [vec![b"h3".to_vec()], vec![]] {
        let mut client = fixture.client();
        client.alpn_protocols = offered;
        let client: Arc<dyn crypto::ClientConfig> =
            Arc::new(QuicClientConfig::try_from(client).unwrap());
        // no_application_protocol
        assert_eq!(alert(&fixture, &client), Some(0x178));
    }
}
