//! The same job in virtual and in real time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use tern_netsim::{figures::Case, parity};

/// How near they are is a matter of how busy the machine is, so it is measured and not tested. But neither can be
/// faster than the links.
#[test]
fn the_job_is_done_in_both_and_neither_is_faster_than_the_links() {
    let mut case = Case::rtt(20.0, 0.0);
    case.up.rate_kbit_s = Some(8_000.0);
    assert!(!case.is_by_chance());
    let parity = parity::parity(&case, 1, 5).unwrap();
    for times in [parity.simulated, parity.real] {
        // Ten questions and answers are 20 messages, each from phone to phone.
        assert!(times.turns_ms >= 20.0 * 20.0, "{parity:?}");
        // 200 messages of 2,000 bytes at a million bytes a second.
        assert!(times.burst_ms >= 400.0 + 20.0, "{parity:?}");
        // A handshake, and then the message.
        assert!(times.start_ms >= 2.0 * 20.0, "{parity:?}");
    }
}
