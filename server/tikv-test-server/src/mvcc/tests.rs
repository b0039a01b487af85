//! The rules case by case, and a model that says what must be read.

mod model;
mod rules;

use super::*;

fn ts(ts: u64) -> Timestamp {
    Timestamp(ts)
}

fn key(key: &str) -> Key {
    Key::copy_from_slice(key.as_bytes())
}

/// A prewrite of puts, the first of which is the primary.
fn puts(start: u64, pairs: &[(&str, &str)]) -> Prewrite {
    Prewrite {
        mutations: pairs.iter().map(|(k, v)| mutation(MutationKind::Put, k, v)).collect(),
        primary: key(pairs[0].0),
        start_ts: ts(start),
        ttl_ms: 1_000,
        ..Prewrite::default()
    }
}

fn mutation(kind: MutationKind, at: &str, value: &str) -> Mutation {
    Mutation { kind, key: key(at), value: key(value), check: PessimisticCheck::Skip }
}

/// The engine, with changes applied as they come.
#[derive(Debug, Default)]
struct Sut(Engine);

impl Sut {
    fn prewrite(&mut self, prewrite: &Prewrite) -> Result<Prewritten, Vec<KeyError>> {
        let (done, changes) = self.0.prewrite(prewrite)?;
        self.0.apply(&changes);
        Ok(done)
    }

    fn commit(&mut self, keys: &[&str], start: u64, commit: u64) -> Result<(), KeyError> {
        let keys: Vec<_> = keys.iter().map(|k| key(k)).collect();
        let changes = self.0.commit(&keys, ts(start), ts(commit))?;
        self.0.apply(&changes);
        Ok(())
    }

    fn rollback(&mut self, keys: &[&str], start: u64) -> Result<(), KeyError> {
        let keys: Vec<_> = keys.iter().map(|k| key(k)).collect();
        let changes = self.0.rollback(&keys, ts(start))?;
        self.0.apply(&changes);
        Ok(())
    }

    /// Writes at once, from `start` to `commit`.
    fn write(&mut self, start: u64, commit: u64, pairs: &[(&str, &str)]) {
        self.prewrite(&puts(start, pairs)).unwrap();
        self.commit(&pairs.iter().map(|(k, _)| *k).collect::<Vec<_>>(), start, commit).unwrap();
    }

    fn get(&mut self, at: &str, read: u64) -> Result<Option<String>, KeyError> {
        let value = self.0.get(&key(at), ts(read), &ReadOptions::default())?;
        Ok(value.map(|value| String::from_utf8(value.to_vec()).unwrap()))
    }

    fn value(&mut self, at: &str, read: u64) -> Option<String> {
        self.get(at, read).unwrap()
    }

    fn status(&mut self, ask: &CheckStatus) -> Result<TransactionStatus, KeyError> {
        let (status, changes) = self.0.check_status(ask)?;
        self.0.apply(&changes);
        Ok(status)
    }

    fn secondaries(&mut self, keys: &[&str], start: u64) -> Secondaries {
        let keys: Vec<_> = keys.iter().map(|k| key(k)).collect();
        let (found, changes) = self.0.check_secondaries(&keys, ts(start));
        self.0.apply(&changes);
        found
    }

    fn resolve(&mut self, start: u64, commit: u64) -> Result<(), KeyError> {
        let changes = self.0.resolve(&key(""), &key(""), &[(ts(start), ts(commit))], &[])?;
        self.0.apply(&changes);
        Ok(())
    }

    fn lock(&mut self, request: &LockKeys) -> Result<Vec<LockedValue>, KeyError> {
        let (values, changes) = self.0.lock_keys(request)?;
        self.0.apply(&changes);
        Ok(values)
    }
}
