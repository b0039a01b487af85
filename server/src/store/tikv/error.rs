//! What an error of TiKV's client says of a commit: surely nothing was changed, or who knows.

use tikv_client::{Error, ProtoKeyError, ProtoRegionError};

/// What is known of a commit that returned an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another transaction was in the way: nothing was changed, and trying again may succeed at once.
    Conflict,
    /// The cluster wasn't ready: nothing was changed, and a later try may succeed.
    NotReady,
    /// It is too large for the cluster as it is: nothing was changed, and no try will.
    TooLarge,
    /// It may have happened, or may yet.
    Unclear,
}

/// Judges the error of a commit whose requests weren't repeated by the client.
///
/// Only what the cluster has answered is certain. A time-out of a request comes as an ordinary
/// gRPC error, so each of those is unclear.
pub(super) fn judge(error: &Error) -> Verdict {
    match error {
        Error::KeyError(error) => of_key(error),
        Error::RegionError(error) => of_region(error),
        Error::DuplicateKeyInsertion
        // The client waited for another transaction's lock for as long as it does.
        | Error::ResolveLockError(_) => Verdict::Conflict,
        Error::LeaderNotFound { .. }
        | Error::RegionForKeyNotFound { .. }
        | Error::EntryNotFoundInRegionCache => Verdict::NotReady,
        // One request that was refused for good keeps the whole from being committed, whatever became of
        // the others. One of which nothing is known doesn't matter then.
        Error::ExtractedErrors(errors) | Error::MultipleKeyErrors(errors) => {
            let verdicts = errors.iter().map(judge);
            verdicts.min_by_key(|verdict| rank(*verdict)).unwrap_or(Verdict::Unclear)
        }
        _ => Verdict::Unclear,
    }
}

/// What to make of several: the surest first.
fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::TooLarge => 0,
        Verdict::Conflict => 1,
        Verdict::NotReady => 2,
        Verdict::Unclear => 3,
    }
}

fn of_key(error: &ProtoKeyError) -> Verdict {
    let refused = error.conflict.is_some()
        || error.already_exist.is_some()
        || error.locked.is_some()
        || !error.retryable.is_empty();
    // A transaction that was aborted may have been so because it is committed already.
    if refused { Verdict::Conflict } else { Verdict::Unclear }
}

fn of_region(error: &ProtoRegionError) -> Verdict {
    if error.raft_entry_too_large.is_some() {
        return Verdict::TooLarge;
    }
    // These are said before anything is proposed. A stale command isn't one of them: it was proposed, and
    // may have been applied under the next leader.
    let before = error.not_leader.is_some()
        || error.epoch_not_match.is_some()
        || error.region_not_found.is_some()
        || error.key_not_in_region.is_some()
        || error.store_not_match.is_some()
        || error.server_is_busy.is_some()
        || error.max_timestamp_not_synced.is_some();
    if before && error.stale_command.is_none() { Verdict::NotReady } else { Verdict::Unclear }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(change: impl FnOnce(&mut ProtoRegionError)) -> Error {
        let mut error = ProtoRegionError::default();
        change(&mut error);
        Error::RegionError(Box::new(error))
    }

    fn retryable() -> Error {
        let error = ProtoKeyError { retryable: "again".to_owned(), ..ProtoKeyError::default() };
        Error::KeyError(Box::new(error))
    }

    #[test]
    fn only_what_was_refused_is_certain() {
        let busy = region(|error| error.server_is_busy = Some(Default::default()));
        assert_eq!(judge(&busy), Verdict::NotReady);
        let stale = region(|error| error.stale_command = Some(Default::default()));
        assert_eq!(judge(&stale), Verdict::Unclear);
        let large = region(|error| error.raft_entry_too_large = Some(Default::default()));
        assert_eq!(judge(&large), Verdict::TooLarge);
        assert_eq!(judge(&region(|_| {})), Verdict::Unclear);
        assert_eq!(judge(&retryable()), Verdict::Conflict);
        let aborted = ProtoKeyError { abort: "Committed".to_owned(), ..ProtoKeyError::default() };
        assert_eq!(judge(&Error::KeyError(Box::new(aborted))), Verdict::Unclear);
        assert_eq!(judge(&Error::UndeterminedError(Box::new(busy))), Verdict::Unclear);
        assert_eq!(judge(&Error::OnePcFailure), Verdict::Unclear);
    }

    #[test]
    fn one_refusal_is_enough() {
        let lost = Error::StringError("lost".to_owned());
        let both = Error::ExtractedErrors(vec![lost, Error::MultipleKeyErrors(vec![retryable()])]);
        assert_eq!(judge(&both), Verdict::Conflict);
        let unclear = Error::ExtractedErrors(vec![Error::StringError("lost".to_owned())]);
        assert_eq!(judge(&unclear), Verdict::Unclear);
        assert_eq!(judge(&Error::ExtractedErrors(vec![])), Verdict::Unclear);
    }
}
