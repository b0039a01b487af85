//! Extension ids that never mean anything (SPEC.md 11.3), after RFC 8701: using them keeps the other
//! end able to ignore what it doesn't know.

use bytes::Bytes;

use crate::{frame::Extension, limits};

/// Whether an extension id is grease: 0x0a0a, 0x1a1a, … 0xfafa.
pub const fn is_grease(id: u16) -> bool {
    id & 0x0f0f == 0x0a0a && id >> 8 == id & 0xff
}

/// The grease id that a random byte picks.
pub const fn id(random: u8) -> u16 {
    let byte = (random & 0xf0) as u16 | 0x0a;
    byte << 8 | byte
}

/// A frame of grease made from random bytes: two choose id and length, the rest is the body.
pub fn frame(random: &[u8; 2 + limits::GREASE_BYTES]) -> Extension {
    let [which, length, body @ ..] = random;
    let length = *length as usize % (limits::GREASE_BYTES + 1);
    Extension { id: id(*which), body: Bytes::copy_from_slice(&body[..length]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_sixteen() {
        let all: Vec<u16> = (0..=u16::MAX).filter(|&id| is_grease(id)).collect();
        assert_eq!(all.len(), 16);
        assert_eq!((all[0], all[15]), (0x0a0a, 0xfafa));
        for random in 0..=u8::MAX {
            assert!(is_grease(id(random)));
        }
    }

    #[test]
    fn a_frame_is_bounded() {
        for length in 0..=u8::MAX {
            let mut random = [7; 66];
            random[1] = length;
            let frame = frame(&random);
            assert!(is_grease(frame.id) && frame.body.len() <= limits::GREASE_BYTES);
        }
    }
}
