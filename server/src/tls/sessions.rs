//! TLS sessions kept for resumption, each used once.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustls::server::StoresServerSessions;

/// Sessions in memory, of a bounded number; the oldest go first.
///
/// rustls has one of its own, which searches a list of all of them whenever one is taken: at 20,000
/// sessions that was a quarter of what a sign-in costs, under a lock. Two generations need no list:
/// when the younger one is full it becomes the older one, and what the older one held is forgotten. So
/// at least half of the number is remembered, and never more than it.
#[derive(Debug)]
pub(super) struct Sessions {
    generations: Mutex<Generations>,
    generation_sessions: usize,
}

#[derive(Debug, Default)]
struct Generations {
    younger: HashMap<Vec<u8>, Vec<u8>>,
    older: HashMap<Vec<u8>, Vec<u8>>,
}

impl Sessions {
    /// Room for so many sessions.
    pub(super) fn new(sessions: usize) -> Self {
        Self { generations: Mutex::default(), generation_sessions: (sessions / 2).max(1) }
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        // A session is there or it isn't, whatever panicked.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut generations = self.generations();
        if generations.younger.len() >= self.generation_sessions {
            generations.older = mem::take(&mut generations.younger);
        }
        generations.younger.insert(key, value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let generations = self.generations();
        generations.younger.get(key).or_else(|| generations.older.get(key)).cloned()
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut generations = self.generations();
        generations.younger.remove(key).or_else(|| generations.older.remove(key))
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    #[test]
    fn a_session_is_taken_once() {
        let sessions = Sessions::new(10);
        assert!(sessions.put(key(1), b"one".to_vec()));
        assert_eq!(sessions.get(&key(1)), Some(b"one".to_vec()));
        assert_eq!(sessions.take(&key(1)), Some(b"one".to_vec()));
        assert_eq!((sessions.take(&key(1)), sessions.get(&key(1))), (None, None));
    }

    #[test]
    fn the_oldest_are_forgotten_and_half_of_the_number_is_kept() {
        let sessions = Sessions::new(10);
        for number in 0..100 {
            sessions.put(key(number), key(number));
            let kept: Vec<u32> =
                (0..=number).filter(|&number| sessions.get(&key(number)).is_some()).collect();
            assert!(kept.len() <= 10 && kept.len() >= 5.min(number as usize + 1));
            assert!(kept.windows(2).all(|pair| pair[1] == pair[0] + 1));
            assert_eq!(kept.last(), Some(&number));
        }
    }
}
