//! Committed changes in memory, on top of something older.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use crate::store::Mutation;

/// What an entry or a cleared range costs beyond its bytes, roughly.
const ENTRY_BYTES: usize = 128;

/// What a layer knows about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    Value(Bytes),
    /// The key has no value, whatever lies below.
    Gone,
    /// Ask below.
    Nothing,
}

/// An ordered set of changes: newest value per key, and ranges whose older content is gone.
///
/// A deleted range is kept as a range: it costs the same for one key as for a million, and
/// what it covers in this layer is freed at once, so a message that dies young is never
/// written to the tree.
#[derive(Debug, Default)]
pub(super) struct Layer {
    /// `None` hides what lies below. Entries are newer than `cleared`: an entry inside a
    /// cleared range was put there after the range was cleared.
    entries: BTreeMap<Bytes, Option<Bytes>>,
    /// `from` to `to`, exclusive; disjoint, and no two touch.
    cleared: BTreeMap<Bytes, Bytes>,
    bytes: usize,
}

/// The part of a layer that a scan needs.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// In the order of the scan.
    pub(super) entries: Vec<(Bytes, Option<Bytes>)>,
    /// Ascending.
    pub(super) cleared: Vec<(Bytes, Bytes)>,
}

impl Layer {
    /// Roughly the memory held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many changes it holds.
    pub(super) fn changes(&self) -> usize {
        self.entries.len() + self.cleared.len()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> {
        self.entries.iter().map(|(key, value)| (key, value.as_ref()))
    }

    pub(super) fn cleared(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.cleared.iter()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn get(&self, key: &[u8]) -> Known {
        match self.entries.get(key) {
            Some(Some(value)) => Known::Value(value.clone()),
            Some(None) => Known::Gone,
            None if self.is_cleared(key) => Known::Gone,
            None => Known::Nothing,
        }
    }

    fn is_cleared(&self, key: &[u8]) -> bool {
        let up_to_key = (Bound::Unbounded, Bound::Included(key));
        self.cleared
            .range::<[u8], _>(up_to_key)
            .next_back()
            .is_some_and(|(_, to)| key < to.as_ref())
    }

    pub(super) fn apply(&mut self, mutation: &Mutation) {
        match mutation {
            Mutation::Put(key, value) => self.put(key, value),
            Mutation::Delete(key) => self.delete(key),
            Mutation::DeleteRange(from, to) => self.delete_range(from, to),
        }
    }

    fn put(&mut self, key: &Bytes, value: &Bytes) {
        // The caller's slices may pin a much larger receive buffer, so they are copied.
        let value = Bytes::copy_from_slice(value);
        self.bytes += value.len();
        if let Some(slot) = self.entries.get_mut(key) {
            if let Some(old) = slot.replace(value) {
                self.bytes -= old.len();
            }
        } else {
            self.bytes += key.len() + ENTRY_BYTES;
            self.entries.insert(Bytes::copy_from_slice(key), Some(value));
        }
    }

    fn delete(&mut self, key: &Bytes) {
        if self.is_cleared(key) {
            // The cleared range hides what lies below already.
            self.remove_entry(key);
        } else if let Some(slot) = self.entries.get_mut(key) {
            if let Some(old) = slot.take() {
                self.bytes -= old.len();
            }
        } else {
            self.bytes += key.len() + ENTRY_BYTES;
            self.entries.insert(Bytes::copy_from_slice(key), None);
        }
    }

    fn remove_entry(&mut self, key: &[u8]) {
        if let Some((key, value)) = self.entries.remove_entry(key) {
            self.bytes -= key.len() + value.map_or(0, |value| value.len()) + ENTRY_BYTES;
        }
    }

    fn delete_range(&mut self, from: &Bytes, to: &Bytes) {
        if from >= to {
            return;
        }
        let covered: Vec<Bytes> =
            self.entries.range::<Bytes, _>(from..to).map(|(key, _)| key.clone()).collect();
        for key in covered {
            self.remove_entry(&key);
        }

        // Overlapping and touching ranges become one: cumulative acknowledgements of a
        // conversation stay one range.
        let mut from = Bytes::copy_from_slice(from);
        let mut to = Bytes::copy_from_slice(to);
        while let Some((start, end)) = self.cleared.range::<Bytes, _>(..=&to).next_back() {
            if *end < from {
                break;
            }
            let (start, end) = (start.clone(), end.clone());
            self.cleared.remove(&start);
            self.bytes -= start.len() + end.len() + ENTRY_BYTES;
            from = from.min(start);
            to = to.max(end);
        }
        self.bytes += from.len() + to.len() + ENTRY_BYTES;
        self.cleared.insert(from, to);
    }

    /// The entries of `[from, to)` that `hidden` doesn't hide, until `limit` of them have
    /// values; then the range is narrowed to what was seen, because a scan with this limit
    /// needs nothing beyond.
    pub(super) fn window(
        &self,
        from: &mut Bytes,
        to: &mut Bytes,
        limit: usize,
        reverse: bool,
        hidden: impl Fn(&[u8]) -> bool,
    ) -> Window {
        let mut window = Window::default();
        if *from >= *to {
            return window;
        }
        let mut values = 0;
        let range = self.entries.range::<Bytes, _>(&*from..&*to);
        let mut take = |(key, value): (&Bytes, &Option<Bytes>)| {
            if hidden(key) {
                return None;
            }
            values += usize::from(value.is_some());
            window.entries.push((key.clone(), value.clone()));
            (values >= limit).then(|| key.clone())
        };
        let mut forward = range.clone();
        let mut backward = range.rev();
        if reverse {
            if let Some(lowest) = backward.find_map(&mut take) {
                *from = lowest;
            }
        } else if let Some(highest) = forward.find_map(&mut take) {
            *to = successor(&highest);
        }
        // A range that starts before `from` may reach into the window.
        let before = self.cleared.range::<Bytes, _>(..&*from).next_back();
        window.cleared = before
            .into_iter()
            .filter(|(_, end)| **end > *from)
            .chain(self.cleared.range::<Bytes, _>(&*from..&*to))
            .map(|(start, end)| (start.clone(), end.clone()))
            .collect();
        window
    }
}

/// The smallest key after this one.
fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn touching_cleared_ranges_become_one() {
        let mut layer = Layer::default();
        for (from, to) in [("a", "c"), ("m", "p"), ("c", "e"), ("x", "z"), ("d", "n")] {
            layer.apply(&Mutation::DeleteRange(b(from), b(to)));
        }
        let ranges: Vec<_> = layer.cleared().map(|(f, t)| (f.clone(), t.clone())).collect();
        assert_eq!(ranges, [(b("a"), b("p")), (b("x"), b("z"))]);
    }

    #[test]
    fn memory_is_given_back_by_deletion() {
        let mut layer = Layer::default();
        for i in 0..100u8 {
            layer.apply(&Mutation::Put(vec![b'k', i].into(), vec![0; 500].into()));
        }
        let full = layer.bytes();
        layer.apply(&Mutation::DeleteRange(b("k"), b("l")));
        assert!(full > 50_000 && layer.bytes() < 200, "{full} {}", layer.bytes());
        layer.apply(&Mutation::Put(b("k1"), b("v")));
        layer.apply(&Mutation::Delete(b("k1")));
        assert_eq!(layer.entries().count(), 0);
        assert_eq!(layer.get(b"k1"), Known::Gone);
        assert_eq!(layer.get(b"l"), Known::Nothing);
    }
}
