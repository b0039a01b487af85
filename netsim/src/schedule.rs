//! What is on its way, in the order in which it arrives. Without I/O, in real time and in virtual time alike.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

/// Packets on their way, each with the time of its arrival. What arrives at the same time arrives in the
/// order in which it was put in.
#[derive(Debug)]
pub struct Schedule<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    next_number: u64,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    at: Duration,
    number: u64,
    bytes: usize,
    item: T,
}

impl<T> Schedule<T> {
    /// An empty schedule that takes items of up to `max_bytes` together, as their bytes are given.
    pub fn new(max_bytes: usize) -> Self {
        Self { heap: BinaryHeap::new(), next_number: 0, bytes: 0, max_bytes }
    }

    /// Puts in what arrives at a time. Gives it back if there is no room for its bytes.
    ///
    /// # Errors
    ///
    /// The item, if it and the others would be more than the most bytes.
    pub fn push(&mut self, at: Duration, bytes: usize, item: T) -> Result<(), T> {
        let all_bytes = self.bytes.saturating_add(bytes);
        if all_bytes > self.max_bytes {
            return Err(item);
        }
        self.bytes = all_bytes;
        self.heap.push(Reverse(Entry { at, number: self.next_number, bytes, item }));
        self.next_number += 1;
        Ok(())
    }

    /// When the next one arrives.
    pub fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes out the next one that has arrived by `now`, with the time when it was to.
    pub fn pop(&mut self, now: Duration) -> Option<(Duration, T)> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.bytes -= entry.bytes;
        Some((entry.at, entry.item))
    }
}

impl<T> Entry<T> {
    fn order(&self) -> (Duration, u64) {
        (self.at, self.number)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_when_they_arrive_and_in_order() {
        let ms = Duration::from_millis;
        let mut schedule = Schedule::new(100);
        for (at, item) in [(5, "c"), (3, "a"), (5, "d"), (3, "b")] {
            schedule.push(ms(at), 1, item).unwrap();
        }
        assert_eq!(schedule.next_at(), Some(ms(3)));
        assert_eq!(schedule.pop(ms(2)), None);
        let order: Vec<_> = std::iter::from_fn(|| schedule.pop(ms(5))).collect();
        assert_eq!(order, [(ms(3), "a"), (ms(3), "b"), (ms(5), "c"), (ms(5), "d")]);
        assert_eq!(schedule.next_at(), None);
    }

    #[test]
    fn its_bytes_are_bounded() {
        let mut schedule = Schedule::new(10);
        schedule.push(Duration::ZERO, 6, 'a').unwrap();
        assert_eq!(schedule.push(Duration::ZERO, 5, 'b'), Err('b'));
        schedule.push(Duration::ZERO, 4, 'c').unwrap();
        schedule.pop(Duration::ZERO).unwrap();
        schedule.push(Duration::ZERO, 6, 'd').unwrap();
    }
}
