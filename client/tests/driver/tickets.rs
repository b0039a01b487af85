//! What a client does with the ticket of its last sign-in.

use tern_client::{Code, ConnectError, ConnectionState, Tick};

use crate::{fake::Fake, person::person};

#[tokio::test]
async fn a_lost_connection_comes_back_with_the_ticket_in_early_data() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    ann.connected().await;
    fake.drop_connections(Code::Internal);
    ann.connection(|state| matches!(state, ConnectionState::Waiting { .. })).await;
    let local = ann.client.send("bob", b"back").await.unwrap();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    let hellos = fake.world().hellos();
    assert_eq!(hellos.first(), Some(&(false, false)));
    assert_eq!(hellos.last(), Some(&(true, true)), "{hellos:?}");
}

#[tokio::test]
async fn a_void_ticket_is_followed_by_a_signature() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    fake.world().no_tickets = true;
    ann.connected().await;
    assert_eq!(fake.world().hellos()[1..], [(true, true), (false, true)][..]);
}

#[tokio::test]
async fn the_newest_ticket_is_used_whatever_happened_to_the_connection() {
    let fake = Fake::start();
    // A registration, and three connections behind it.
    let mut ann = person(&fake, "ann").await;
    ann.connected().await;
    fake.drop_connections(Code::Internal);
    ann.connected().await;
    // A rejection that isn't about the ticket says nothing about it.
    fake.world().reject = vec![(Code::Overloaded, 1), (Code::RateLimited, 1)];
    fake.drop_connections(Code::Overloaded);
    ann.connected().await;
    // It survives the process.
    let mut ann = ann.restart().await;
    ann.connected().await;
    let ticket =
        |epoch: u64| Some([fake.device(0).get().to_le_bytes(), epoch.to_le_bytes()].concat());
    let expected = [1, 2, 3, 3, 3, 4].map(ticket);
    let tickets = fake.world().tickets();
    assert_eq!((&tickets[0], &tickets[1..]), (&None, &expected[..]));
}

#[tokio::test]
async fn a_ticket_that_was_not_taken_is_not_used_again() {
    for code in [Code::TicketInvalid, Code::TicketExpired, Code::UnknownDevice] {
        let fake = Fake::start();
        let mut ann = person(&fake, "ann").await;
        // The process dies when the signature behind it was rejected for now.
        fake.world().reject = vec![(code, 0), (Code::Overloaded, 3_600_000)];
        ann.client.connect();
        ann.connection(|state| matches!(state, ConnectionState::Waiting { .. })).await;
        let mut ann = ann.restart().await;
        ann.connected().await;
        let by_ticket: Vec<_> = fake.world().hellos().iter().map(|&(it, _)| it).collect();
        assert_eq!(by_ticket, [false, true, false, false], "{code}");
    }
}

#[tokio::test]
async fn the_ticket_of_a_removed_device_is_forgotten() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    ann.connected().await;
    fake.drop_connections(Code::DeviceRemoved);
    ann.connection(|state| {
        let error = ConnectError::Closed(Code::DeviceRemoved);
        matches!(state, ConnectionState::Stopped { error: e } if e.to_string() == error.to_string())
    })
    .await;
    let mut ann = ann.restart().await;
    ann.connected().await;
    assert_eq!(fake.world().tickets().last(), Some(&None));
}

#[tokio::test]
async fn a_server_that_can_not_be_verified_gets_no_ticket() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    let local = ann.client.send("bob", b"secret").await.unwrap();
    let impostor = Fake::start();
    let address = impostor.address.to_string();
    ann.client.move_server(Some(address), None, None).await.unwrap();
    ann.client.connect();
    ann.connection(|state| {
        matches!(state, ConnectionState::Waiting { error: ConnectError::Quic(_), .. })
    })
    .await;
    assert!(impostor.world().visits.is_empty());
    // It is still there for the real one.
    ann.client.move_server(Some(fake.address.to_string()), None, None).await.unwrap();
    ann.client.connect();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    assert!(fake.world().tickets().last().unwrap().is_some());
}
