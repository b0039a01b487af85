//! Keys as PD sees them.
//!
//! TiKV encodes the keys of transactions so that versions can be appended and the order stays, and tells PD its
//! regions' borders in that form. A client encodes what it asks PD for and decodes what it is told; in commands to
//! TiKV keys are plain. The form: groups of eight bytes, the last filled up with zeros, each followed by 255
//! minus the number of bytes filled up.

use bytes::Bytes;

const GROUP: usize = 8;
const MARKER: u8 = 0xff;

/// Encodes a key.
pub(crate) fn encode(key: &[u8]) -> Bytes {
    let mut encoded = Vec::with_capacity((key.len() / GROUP + 1) * (GROUP + 1));
    let mut rest = key;
    // A key of whole groups gets an empty one behind it: that is how its end is known.
    loop {
        let (group, behind) = rest.split_at(rest.len().min(GROUP));
        let filled = GROUP - group.len();
        encoded.extend_from_slice(group);
        encoded.resize(encoded.len() + filled, 0);
        encoded.push(MARKER - filled as u8);
        if filled > 0 {
            return encoded.into();
        }
        rest = behind;
    }
}

/// Encodes a region's border: an empty one, which means the end of the world, stays empty.
pub(crate) fn encode_border(border: &[u8]) -> Bytes {
    if border.is_empty() { Bytes::new() } else { encode(border) }
}

/// Decodes a key; `None` if no key encodes to this. The empty one means the beginning of the world.
pub(crate) fn decode(encoded: &[u8]) -> Option<Bytes> {
    let mut key = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while !rest.is_empty() {
        let (group, behind) = rest.split_at_checked(GROUP + 1)?;
        let filled = usize::from(MARKER - group[GROUP]);
        if filled > GROUP || group[GROUP - filled..GROUP].iter().any(|byte| *byte != 0) {
            return None;
        }
        key.extend_from_slice(&group[..GROUP - filled]);
        if filled > 0 {
            return behind.is_empty().then(|| key.into());
        }
        rest = behind;
    }
    encoded.is_empty().then(Bytes::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fills_the_last_group_up() {
        assert_eq!(&encode(b"")[..], [0, 0, 0, 0, 0, 0, 0, 0, 247]);
        assert_eq!(&encode(b"abc")[..], [97, 98, 99, 0, 0, 0, 0, 0, 250]);
        let mut whole = b"abcdefgh\xff".to_vec();
        whole.extend([0, 0, 0, 0, 0, 0, 0, 0, 247]);
        assert_eq!(encode(b"abcdefgh"), whole);
    }

    #[test]
    fn refuses_what_is_no_key() {
        for wrong in [&b"abc"[..], b"abc\0\0\0\0\x01\xfa", b"abcdefgh\xff", b"abcdefgh\x01"] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn comes_back_and_keeps_the_order(a: Vec<u8>, b: Vec<u8>) {
            prop_assert_eq!(&decode(&encode(&a)).unwrap()[..], &a[..]);
            prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.cmp(&b));
        }
    }
}
