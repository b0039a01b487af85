//! An attacker on the path records the first flight of a device that resumes, and sends it again: nothing
//! happens twice, nothing is lost, and nobody is disturbed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "replay/world.rs"]
mod world;

use std::time::Duration;

use tern_netsim::sim::{Recorded, in_virtual_time};

use self::world::World;

/// Runs a test in a world with Ann, who resumes, Bob, to whom she writes, and the attacker.
fn with_world(test: impl AsyncFnOnce(&mut World) + Send) {
    in_virtual_time(|| async {
        let mut world = World::new().await;
        test(&mut world).await;
        world.judge().await;
    })
    .unwrap();
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[test]
fn a_flight_replayed_while_its_connection_lives_is_nothing_to_anybody() {
    with_world(async |world| {
        let flight = world.resume().await;
        let before = world.counts();
        for _ in 0..5 {
            world.replay_unnoticed(&flight).await;
        }
        // The server has forgotten what names the connection had during its handshake: each is an attempt to
        // make another, whose 0-RTT data isn't read, since a TLS session is good for one.
        let after = world.counts();
        // More, if she had given attempts up that were closed in the same flight.
        assert!(after.handshakes >= before.handshakes + 5, "{after:?}");
        assert_eq!((after.tickets, after.accepted), (before.tickets, before.accepted));
    });
}

#[test]
fn a_flight_replayed_during_its_handshake_is_nothing_to_anybody() {
    with_world(async |world| {
        world.leave().await;
        let shown = world.shown();
        world.come_back().await;
        // When the copy arrives, the server has the first flight, and Ann not yet an answer.
        pass(60).await;
        let flight = world.recorded();
        world.attacker.replay(&flight).unwrap();
        pass(5).await;
        assert_eq!(world.ann.shown().connected, shown.0.connected);
        world.ann_gets_through(shown).await;
    });
}

/// The attacker is nearer to the server than Ann is, so its copy is the one that is taken.
#[test]
fn a_flight_replayed_before_its_original_keeps_nobody_out() {
    with_world(async |world| {
        world.leave().await;
        let (before, shown) = (world.counts(), world.shown());
        world.come_back().await;
        pass(1).await;
        let flight = world.recorded();
        world.attacker.replay(&flight).unwrap();
        pass(20).await;
        // It is taken as 0-RTT data before anything of Ann has arrived: else this would show nothing.
        let taken = world.counts();
        assert_eq!((taken.tickets, taken.accepted), (before.tickets + 1, before.accepted + 1));
        assert_eq!(taken.sessions, before.sessions, "nobody has come");
        world.ann_gets_through(shown).await;
    });
}

/// The flight is an attempt to connect, but its 0-RTT data isn't read.
async fn is_not_taken(world: &mut World, flight: &[Recorded]) {
    let before = world.counts();
    world.replay_unnoticed(flight).await;
    let after = world.counts();
    assert!(after.handshakes > before.handshakes, "{after:?}");
    assert_eq!((after.tickets, after.accepted), (before.tickets, before.accepted));
}

#[test]
fn a_flight_replayed_when_its_connection_is_over_is_not_taken() {
    with_world(async |world| {
        let flight = world.resume().await;
        world.resume().await;
        is_not_taken(world, &flight).await;
    });
}

#[test]
fn a_flight_replayed_after_a_restart_of_the_server_is_not_taken() {
    with_world(async |world| {
        let flight = world.resume().await;
        world.restart_server().await;
        is_not_taken(world, &flight).await;
    });
}

/// The original is lost: the server has nothing but the copy.
#[test]
fn a_flight_replayed_for_an_original_that_was_lost_sends_and_does_no_more() {
    with_world(async |world| {
        world.leave().await;
        world.lose_what_ann_sends(true);
        let (before, shown, given) = (world.counts(), world.shown(), world.bob.given());
        world.come_back().await;
        pass(1).await;
        let flight = world.recorded();
        world.attacker.replay(&flight).unwrap();
        pass(2_000).await;
        // The message is Ann's and goes its way. She isn't there, and nothing waits for her less.
        let taken = world.counts();
        assert_eq!((taken.tickets, taken.accepted), (before.tickets + 1, before.accepted + 1));
        assert_eq!(taken.sessions, 1, "Bob's alone");
        assert_eq!(world.bob.given(), given + 1);
        assert_eq!(world.bob.shown(), shown.1);
        // When she is there in truth, her own try is a repeat of what the server has.
        world.lose_what_ann_sends(false);
        world.ann_gets_through(shown).await;
        assert_eq!(world.counts().accepted, taken.accepted + 1);
        assert_eq!(world.bob.given(), given + 1);
    });
}

/// The original is lost, Ann gets a connection by other means, and only then the copy is taken.
#[test]
fn a_flight_that_is_taken_while_its_device_is_connected_ends_no_connection() {
    with_world(async |world| {
        world.leave().await;
        world.lose_what_ann_sends(true);
        world.come_back().await;
        pass(1).await;
        let flight = world.recorded();
        world.restart_ann().await;
        world.lose_what_ann_sends(false);
        pass(10_000).await;
        let before = world.counts();
        assert_eq!(before.sessions, 2);
        world.replay_unnoticed(&flight).await;
        // The server takes it, and says what it said of the message: it has it.
        let taken = world.counts();
        assert_eq!(taken.tickets, before.tickets + 1);
        assert_eq!(taken.sessions, 2);
    });
}
