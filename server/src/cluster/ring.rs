//! Who owns a conversation: rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase
//! hit rates", IEEE/ACM Transactions on Networking 6(1), 1998).
//!
//! Every node gives a key a score, and the highest owns it. So everybody who knows the same nodes names the same
//! owner without a word, and when a node comes or goes only the keys that it gains or had change hands.
//!
//! # The contract
//!
//! All nodes of a cluster must agree, whatever their platform and version, so the function is fixed:
//!
//! ```text
//! mix(z):   z ^= z >> 30;  z *= 0xbf58476d1ce4e5b9;  z ^= z >> 27;  z *= 0x94d049bb133111eb;  z ^= z >> 31
//! score:    mix(mix(mix(first ^ SEED) ^ second) ^ mix(node))
//! ```
//!
//! in 64-bit arithmetic modulo 2^64, where `first` and `second` are the key's two halves, little-endian, and
//! [`SEED`] is a constant. `mix` is the finaliser of SplitMix64 (Stafford's variant 13 of MurmurHash3's). It is
//! a bijection, so two nodes never have the same score for a key.

use tern_protocol::id::{AccountId, ConversationId};

use super::NodeId;

/// Keeps the scores apart from other uses of the same mixer: "tern/1 o" in ASCII, little-endian.
pub const SEED: u64 = u64::from_le_bytes(*b"tern/1 o");

/// The nodes that own something.
///
/// Finding an owner costs O(nodes), about a nanosecond for each; making a ring, the same and a sort.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ring {
    /// The nodes in order, each with `mix` of its number.
    nodes: Box<[(NodeId, u64)]>,
}

impl Ring {
    /// A ring of these nodes, in whatever order they come.
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let mut nodes: Vec<_> = nodes.into_iter().map(|node| (node, mix(node.get()))).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Self { nodes: nodes.into() }
    }

    /// The owner of a key; `None` if there is no node.
    pub fn owner(&self, key: &[u8; 16]) -> Option<NodeId> {
        let key = hash(key);
        let highest = self.nodes.iter().max_by_key(|(_, node)| mix(key ^ node));
        highest.map(|&(node, _)| node)
    }

    /// The owner of a conversation.
    pub fn of_conversation(&self, conversation: ConversationId) -> Option<NodeId> {
        self.owner(conversation.as_bytes())
    }

    /// The owner of what there is once for an account. Its key is the account's number, little-endian, and eight
    /// zero bytes.
    pub fn of_account(&self, account: AccountId) -> Option<NodeId> {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&account.get().to_le_bytes());
        self.owner(&key)
    }

    /// The nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().map(|&(node, _)| node)
    }
}

fn hash(key: &[u8; 16]) -> u64 {
    let key = u128::from_le_bytes(*key);
    let (first, second) = (key as u64, (key >> 64) as u64);
    mix(mix(first ^ SEED) ^ second)
}

/// The finaliser of SplitMix64; see above.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z ^= z >> 30;
    z = z.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^= z >> 27;
    z = z.wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn node(value: u64) -> NodeId {
        NodeId::new(value).unwrap()
    }

    fn nodes() -> impl Strategy<Value = Vec<NodeId>> {
        proptest::collection::btree_set(1..u64::MAX, 1..40)
            .prop_map(|ids| ids.into_iter().map(node).collect())
    }

    /// How many of so many keys each node owns. The keys are numbers in a row, which is the worst for a mixer.
    fn shares(ring: &Ring, keys: u64) -> BTreeMap<NodeId, u64> {
        let mut shares: BTreeMap<NodeId, u64> = ring.nodes().map(|node| (node, 0)).collect();
        for key in 0..keys {
            let owner = ring.of_account(AccountId::new(key + 1).unwrap()).unwrap();
            *shares.get_mut(&owner).unwrap() += 1;
        }
        shares
    }

    #[test]
    fn the_contract_holds() {
        // From an independent reckoning of the formula above, with Python's integers.
        let ring = Ring::new([1, 2, 3, 0xdead_beef, u64::MAX].map(node));
        let expected: [([u8; 16], u64); 8] = [
            ([0x00; 16], 2),
            ([0xff; 16], 0xdead_beef),
            ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], 2),
            ([0x07; 16], 2),
            ([128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 3),
            ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 1),
            ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 3),
            ([0xc1; 16], u64::MAX),
        ];
        for (key, owner) in expected {
            assert_eq!(ring.owner(&key), Some(node(owner)), "{key:02x?}");
        }
    }

    #[test]
    fn keys_spread_evenly_over_nodes_in_a_row_as_well() {
        for count in [2, 3, 5, 16, 100] {
            let ring = Ring::new((1..=count).map(node));
            let keys = 20_000 * count;
            let fair = keys / count;
            for (node, share) in shares(&ring, keys) {
                // 20,000 keys each: the deviation is 141 or less, and 3% is more than four of them.
                assert!(share.abs_diff(fair) * 100 <= fair * 3, "{node} owns {share} of {keys}");
            }
        }
    }

    #[test]
    fn nobody_owns_what_nobody_is_there_for() {
        assert_eq!(Ring::default().owner(&[7; 16]), None);
    }

    proptest! {
        #[test]
        fn only_the_keys_of_a_node_that_leaves_change_hands(
            nodes in nodes(),
            leaving in any::<prop::sample::Index>(),
            keys in proptest::collection::vec(any::<[u8; 16]>(), 1..200),
        ) {
            let leaving = nodes[leaving.index(nodes.len())];
            let before = Ring::new(nodes.iter().copied());
            let after = Ring::new(nodes.iter().copied().filter(|&node| node != leaving));
            for key in keys {
                let owner = before.owner(&key);
                if owner == Some(leaving) {
                    prop_assert_ne!(after.owner(&key), owner);
                } else {
                    prop_assert_eq!(after.owner(&key), owner);
                }
            }
        }

        #[test]
        fn the_order_of_the_nodes_makes_no_difference(
            nodes in nodes(),
            key in any::<[u8; 16]>(),
        ) {
            let forth = Ring::new(nodes.iter().copied());
            let back = Ring::new(nodes.iter().rev().copied());
            prop_assert_eq!(forth.owner(&key), back.owner(&key));
        }
    }
}
