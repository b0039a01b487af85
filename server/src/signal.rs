//! A signal to many tasks, in the order in which they began to wait.
//!
//! tokio's `watch` wakes its receivers in an order that it draws, so that they don't all meet at one
//! lock; a simulated run couldn't be repeated with it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts how often it was raised.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicU64,
    changed: Notify,
}

impl Signal {
    /// Raises it, and wakes who waits.
    pub(crate) fn raise(&self) {
        self.raised.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// How often it was raised so far.
    pub(crate) fn count(&self) -> u64 {
        self.raised.load(Ordering::Acquire)
    }

    /// Waits until it was raised more often than `seen`; returns how often.
    pub(crate) async fn beyond(&self, seen: u64) -> u64 {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no raise is missed.
            changed.as_mut().enable();
            let count = self.count();
            if count > seen {
                return count;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn every_waiter_is_woken_in_order_and_none_waits_for_what_was() {
        let signal = Arc::new(Signal::default());
        let (order, mut woken) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..20 {
            let (signal, order) = (signal.clone(), order.clone());
            tokio::spawn(async move {
                let count = signal.beyond(0).await;
                order.send((number, count)).unwrap();
            });
        }
        tokio::task::yield_now().await;
        signal.raise();
        for number in 0..20 {
            assert_eq!(woken.recv().await, Some((number, 1)));
        }
        assert_eq!(signal.beyond(0).await, 1);
    }
}
