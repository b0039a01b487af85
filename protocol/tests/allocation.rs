//! What a frame costs in memory before it is known to be good. One test alone in its process, since
//! the allocator that it counts with belongs to the process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::{alloc::System, hint::black_box};

use bytes::Bytes;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::Value;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tern_protocol::{codec, framing::Deframer, limits};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// All that is allocated while `act` runs, freed or not.
fn allocated(act: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    act();
    region.change().bytes_allocated
}

/// Reading a frame copies short texts and makes lists of small things out of it, so it may cost a few
/// times the frame's own bytes and never more.
fn check(frame: &Bytes) {
    let bytes = allocated(|| drop(black_box(codec::decode(frame.clone()))));
    let bound = 4 * frame.len() + 1024;
    assert!(bytes <= bound, "{bytes} bytes for a frame of {}", frame.len());
}

fn unhex(hex: &str) -> Bytes {
    let digits = (0..hex.len()).step_by(2);
    digits.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn vectors(name: &str) -> Vec<Bytes> {
    let path = format!("{}/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let vectors = file["vectors"].as_array().unwrap().iter();
    vectors.map(|it| unhex(it["bytes"].as_str().unwrap())).collect()
}

#[test]
fn memory_is_bounded_by_what_was_received() {
    // A hostile head promises much; what arrived of it is all that is held.
    for head in [[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], [0xff; 8], [0, 0, 0, 0, 0xff, 0x3f, 0, 0]] {
        let bytes = allocated(|| {
            let mut deframer = Deframer::new(limits::FRAME_BYTES);
            deframer.push(&head);
            black_box(deframer.next_frame()).ok();
        });
        assert!(bytes <= 256, "{bytes} bytes for a head");
    }

    let frames = vectors("frames.json");
    for frame in frames.iter().chain(&vectors("layouts.json")).chain(&vectors("refused.json")) {
        check(frame);
    }

    // Damage to good frames, which may make them claim more than they have.
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let damage = (0..frames.len(), vec((any::<prop::sample::Index>(), any::<u8>()), 1..8));
    let result = runner.run(&damage, |(which, damage)| {
        let mut frame = frames[which].to_vec();
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        check(&frame.into());
        Ok(())
    });
    result.unwrap();
}
