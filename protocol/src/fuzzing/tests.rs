use proptest::{collection::vec, prelude::*};

/// Bytes for a body: short ones mean simple cases, long ones fill every list to its limit.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig {
        // A case costs microseconds; `PROPTEST_CASES` scales them all.
        cases: 4 * ProptestConfig::default().cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn decode(bytes in bytes()) {
        super::decode(&bytes);
    }

    /// The framing and the root pointer are right, so that the rest is looked at.
    #[test]
    fn decode_behind_a_good_start(tag in 0..=21_u8, words in vec(any::<u64>(), 0..40)) {
        let mut frame = vec![0, 0, 0, 0, words.len() as u8 + 2, 0, 0, 0];
        frame.extend([0, 0, 0, 0, 1, 0, 1, 0, tag, 0, 0, 0, 0, 0, 0, 0]);
        for word in words {
            // Half of them look like a pointer to somewhere near.
            let word = if word & 1 == 0 { word & 0x003f_0007_0000_007d } else { word };
            frame.extend(word.to_le_bytes());
        }
        super::decode(&frame);
    }

    #[test]
    fn round_trip(bytes in bytes()) {
        super::round_trip(&bytes);
    }

    #[test]
    fn mutated(bytes in bytes()) {
        super::mutated(&bytes);
    }

    #[test]
    fn deframer(bytes in bytes()) {
        super::deframer(&bytes);
    }

    #[test]
    fn session(bytes in bytes()) {
        super::session(&bytes);
    }

    #[test]
    fn uplink(bytes in bytes()) {
        super::uplink(&bytes);
    }

    #[test]
    fn downlink(bytes in bytes()) {
        super::downlink(&bytes);
    }

    #[test]
    fn receipts(bytes in bytes()) {
        super::receipts(&bytes);
    }
}
