//! The connection as a whole: its beginning, its signs of life, its networks.

use std::time::Duration;

use tern_client::{
    Code, ConnectError, KeepAlive, RegisterError, Registration, Server, Settings, Tick,
};
use tern_protocol::{
    frame::{Frame, RequestBody},
    grease, limits,
};

use crate::{
    fake::{Fake, Visit},
    person::{open, person, person_with, registration},
};

#[tokio::test]
async fn a_new_network_keeps_the_connection() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    ann.connected().await;
    ann.client.network_changed().await;
    let local = ann.client.send("bob", b"from elsewhere").await.unwrap();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    assert_eq!(fake.world().hellos().iter().filter(|(by_ticket, _)| *by_ticket).count(), 1);
}

#[tokio::test]
async fn registration_can_be_repeated_and_says_what_is_wrong() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let again = ann.client.register(registration(&fake, "ann")).await;
    assert!(matches!(again, Err(RegisterError::AlreadyRegistered { .. })));
    let home = tempfile::tempdir().unwrap();
    let (client, _events) = open(home.path()).await;
    let taken = client.register(registration(&fake, "ann")).await;
    assert!(matches!(
        taken,
        Err(RegisterError::Connect(ConnectError::Rejected { code: Code::NameTaken, .. }))
    ));
    let bad = client.register(registration(&fake, "-")).await;
    assert!(matches!(bad, Err(RegisterError::NameInvalid(_))));
    client.register(registration(&fake, "carl")).await.unwrap();
    let other = Fake::start();
    let distrusted = Registration {
        server: Server { ca_pem: other.ca_pem.clone(), ..registration(&fake, "dora").server },
        ..registration(&fake, "dora")
    };
    let home = tempfile::tempdir().unwrap();
    let (client, _events) = open(home.path()).await;
    let error = client.register(distrusted).await.unwrap_err();
    assert!(error.to_string().contains("ca.pem"), "{error}");
}

#[tokio::test]
async fn a_server_that_speaks_more_is_spoken_to_in_this_revision() {
    let fake = Fake::start();
    fake.world().later_revisions = 7;
    let mut ann = person(&fake, "ann").await;
    ann.connected().await;
    let revisions: Vec<u16> =
        fake.world().visits.iter().flat_map(Visit::hellos).map(|hello| hello.revision).collect();
    assert_eq!(revisions, [1, 1]);
}

#[tokio::test]
async fn a_server_that_speaks_no_revision_is_left_and_the_user_told() {
    let fake = Fake::start();
    fake.world().speaks_nothing = true;
    let home = tempfile::tempdir().unwrap();
    let (client, _events) = open(home.path()).await;
    let error = client.register(registration(&fake, "ann")).await.unwrap_err();
    let RegisterError::Connect(ConnectError::Protocol(code, what)) = error else {
        panic!("{error:?}");
    };
    // Revision 0 is a value that can't be, 3.1.
    assert_eq!((code, what.contains("revision")), (Code::MalformedFrame, true), "{what}");
    fake.until(|world| world.closed.last() == Some(&Code::MalformedFrame)).await;
    assert!(fake.world().visits.is_empty());
}

#[tokio::test]
async fn every_connection_carries_grease_and_grease_is_ignored() {
    // The server of these tests sends grease wherever it may stand.
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    for _ in 0..3 {
        ann.connected().await;
        ann.client.ping().await.unwrap();
        ann.client.shutdown().await;
    }
    let world = fake.world();
    assert_eq!(world.visits.len(), 4);
    for visit in &world.visits {
        let [listed] = visit.hellos().next().unwrap().extensions[..] else {
            panic!("not one extension in {visit:?}");
        };
        assert!(grease::is_grease(listed), "{listed:#06x}");
        let sent: Vec<_> = visit
            .frames
            .iter()
            .filter_map(|frame| match frame {
                Frame::Extension(extension) => Some(extension),
                _ => None,
            })
            .collect();
        let [sent] = sent[..] else { panic!("{sent:?} isn't one frame") };
        assert!(grease::is_grease(sent.id), "{:#06x}", sent.id);
        assert!(sent.body.len() <= limits::GREASE_BYTES);
    }
}

/// The keep-alives.
fn questions(visit: &Visit) -> usize {
    let is_question =
        |frame: &&Frame| matches!(frame, Frame::Request(it) if it.body == RequestBody::Address);
    visit.frames.iter().filter(is_question).count()
}

#[tokio::test]
async fn a_connection_is_kept_with_a_server_that_is_impatient() {
    for hides_addresses in [false, true] {
        let fake = Fake::start();
        // Less than the silence that the client would choose.
        fake.world().idle_for_ms = Some(600);
        fake.world().hides_addresses = hides_addresses;
        let mut ann = person(&fake, "ann").await;
        ann.connected().await;
        fake.until(|world| world.visits.last().is_some_and(|visit| questions(visit) >= 3)).await;
    }
}

#[tokio::test]
async fn the_link_alone_keeps_a_connection() {
    let fake = Fake::start();
    let keep_alive = Some(KeepAlive::fixed(Duration::from_millis(20)));
    let mut ann = person_with(&fake, "ann", Settings { keep_alive, ..Default::default() }).await;
    ann.connected().await;
    let connection = fake.connection(fake.device(0));
    fake.until(|world| world.visits.last().is_some_and(|visit| questions(visit) >= 3)).await;
    // QUIC's own would learn nothing of the routers on the way.
    assert_eq!(connection.stats().frame_rx.ping, 0);
}
