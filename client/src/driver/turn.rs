//! Which of a server's addresses is whose turn.

use std::{net::SocketAddr, sync::Mutex};

use rand::Rng;

use crate::core::lock;

/// Of several addresses the one in use is stayed with, and the next one is tried when it fails.
#[derive(Debug, Default)]
pub(crate) struct AddressTurn(Mutex<Option<usize>>);

impl AddressTurn {
    /// Puts the addresses in the order in which to try them: those `ahead` places behind the one in use first. The very
    /// first time a random one begins, so that clients spread over the nodes of a server.
    pub(super) fn order(&self, addresses: &mut [SocketAddr], ahead: usize, rng: &mut impl Rng) {
        if addresses.len() < 2 {
            return;
        }
        let turn = *lock(&self.0).get_or_insert_with(|| rng.random_range(0..addresses.len()));
        let first = turn.wrapping_add(ahead) % addresses.len();
        addresses.rotate_left(first);
    }

    /// The one `ahead` places behind is in use from now on, or is to be tried first.
    pub(super) fn advance(&self, ahead: usize) {
        if let Some(turn) = &mut *lock(&self.0) {
            *turn = turn.wrapping_add(ahead);
        }
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
        turn.advance(1);
        assert_eq!(first(&turn, 0), next);
        turn.advance(2);
        assert_eq!(first(&turn, 0), begun);
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
