//! Which of a server's addresses is whose turn.

use std::{net::SocketAddr, sync::Mutex};

use rand::Rng;

use crate::core::lock;

/// Of several addresses the one in use is stayed with, and the next one is tried when it fails.
#[derive(Debug, Default)]
pub(crate) struct AddressTurn(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The one in use, or last in use; at first a random one, so that clients spread over the nodes of a server.
    current: Option<SocketAddr>,
    /// How many places behind it those are that haven't failed since.
    failed: usize,
    /// How many there are.
    count: usize,
}

impl AddressTurn {
    /// Puts the addresses in the order in which to try them: those `ahead` places behind the one whose turn it is first.
    pub(super) fn order(&self, addresses: &mut [SocketAddr], ahead: usize, rng: &mut impl Rng) {
        let mut state = lock(&self.0);
        state.count = addresses.len();
        if addresses.len() < 2 {
            return;
        }
        let current =
            state.current.and_then(|current| addresses.iter().position(|it| *it == current));
        let current = match current {
            Some(current) => current,
            None => {
                let first = rng.random_range(0..addresses.len());
                state.current = Some(addresses[first]);
                first
            }
        };
        addresses
            .rotate_left(current.wrapping_add(state.failed).wrapping_add(ahead) % addresses.len());
    }

    /// This one is in use from now on.
    pub(super) fn uses(&self, address: SocketAddr) {
        let mut state = lock(&self.0);
        (state.current, state.failed) = (Some(address), 0);
    }

    /// All up to the one that is `ahead` places behind have failed.
    pub(super) fn failed(&self, ahead: usize) {
        let mut state = lock(&self.0);
        state.failed = state.failed.wrapping_add(ahead).wrapping_add(1);
    }

    /// How many addresses there are, as far as is known.
    pub(super) fn count(&self) -> usize {
        lock(&self.0).count
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn addresses() -> Vec<SocketAddr> {
        (1..=3).map(|port| ([127, 0, 0, 1], port).into()).collect()
    }

    fn first(turn: &AddressTurn, ahead: usize) -> u16 {
        let mut order = addresses();
        turn.order(&mut order, ahead, &mut StdRng::seed_from_u64(1));
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!(sorted, addresses(), "each is there once");
        order[0].port()
    }

    #[test]
    fn the_address_in_use_stays_until_it_fails() {
        let turn = AddressTurn::default();
        let begun = first(&turn, 0);
        assert_eq!(first(&turn, 0), begun);
        let next = first(&turn, 1);
        assert_ne!(next, begun);
        turn.failed(0);
        assert_eq!(first(&turn, 0), next);
        turn.failed(1);
        assert_eq!(first(&turn, 0), begun);
        // One that was reached in another way is the one in use as well.
        turn.uses(([127, 0, 0, 1], 2).into());
        assert_eq!((first(&turn, 0), first(&turn, 1)), (2, 3));
    }

    #[test]
    fn clients_begin_everywhere() {
        let begins: std::collections::BTreeSet<u16> = (0..50)
            .map(|seed| {
                let mut order = addresses();
                AddressTurn::default().order(&mut order, 0, &mut StdRng::seed_from_u64(seed));
                order[0].port()
            })
            .collect();
        assert_eq!(begins.len(), 3);
    }
}
