//! Was presence true? A phone that is gone must be shown as offline within the bound of the
//! specification, at every device that could be told.

use std::time::Duration;

use super::{Kind, Violation};

/// How long a phone that is gone may look online, by [TERN-8.2-1]: the silence after which an active client
/// is held for gone (30 s by default), and the grace for a change of networks, at most 5 s.
pub const GONE_WITHIN: Duration = Duration::from_secs(30 + 5);

/// How long news of it may be on their way to a watcher whose links lose nothing and are never full: a second, for
/// delays and timers.
pub const TOLD_SOON: Duration = Duration::from_secs(1);

/// The same on links that lose packets or hold them up: repeats come ever more rarely.
pub const TOLD_AT_LAST: Duration = Duration::from_secs(30);

/// A device was told of another's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// When.
    pub at: Duration,
    /// Who was told.
    pub watcher: usize,
    /// Of whom.
    pub watched: usize,
    /// What.
    pub online: bool,
}

/// A time in which a phone couldn't be reached, or a watcher couldn't be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// Which phone; `None`: the server, and so everybody.
    pub phone: Option<usize>,
    /// From when on.
    pub from: Duration,
    /// Until when.
    pub to: Duration,
}

/// The phones that were gone and still looked online to a watcher that could have been told, when the news had
/// had `told_within` to come.
pub fn ghosts(sights: &[Sight], absences: &[Absence], told_within: Duration) -> Vec<Violation> {
    let within = GONE_WITHIN + told_within;
    let mut ghosts = Vec::new();
    for absence in absences {
        let Some(gone) = absence.phone else { continue };
        let due = absence.from + within;
        if absence.to <= due {
            continue;
        }
        let mut watchers: Vec<usize> =
            sights.iter().filter(|sight| sight.watched == gone).map(|s| s.watcher).collect();
        watchers.sort_unstable();
        watchers.dedup();
        for watcher in watchers {
            let was_there = !absences.iter().any(|other| {
                other.phone.is_none_or(|phone| phone == watcher)
                    && other.from < due
                    && other.to > absence.from
            });
            let last = sights.iter().rfind(|sight| {
                sight.watcher == watcher && sight.watched == gone && sight.at <= due
            });
            if was_there && last.is_some_and(|last| last.online) {
                ghosts.push(violation(format!(
                    "a ghost: p{gone} was gone at {:.3} s and p{watcher} saw it online {} s later",
                    absence.from.as_secs_f64(),
                    within.as_secs()
                )));
            }
        }
    }
    ghosts
}

/// A phone that was shown as offline at the end, to a watcher that could have been told, although it was
/// there.
pub fn unseen(watcher: usize, watched: usize) -> Violation {
    violation(format!("p{watcher} and p{watched} are connected, and p{watcher} sees it as offline"))
}

fn violation(what: String) -> Violation {
    Violation { kind: Kind::FalsePresence, device: None, conversation: None, seq: None, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ghosts(sights: &[Sight], absences: &[Absence]) -> Vec<Violation> {
        super::ghosts(sights, absences, TOLD_SOON)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn sight(seconds: u64, online: bool) -> Sight {
        Sight { at: at(seconds), watcher: 1, watched: 0, online }
    }

    fn absence(phone: Option<usize>, from: u64, to: u64) -> Absence {
        Absence { phone, from: at(from), to: at(to) }
    }

    #[test]
    fn who_is_gone_must_be_shown_so_in_time() {
        let gone = [absence(Some(0), 10, 100)];
        assert_eq!(ghosts(&[sight(1, true), sight(44, false)], &gone), []);
        // Never, too late, or taken back.
        assert_eq!(ghosts(&[sight(1, true)], &gone).len(), 1);
        assert_eq!(ghosts(&[sight(1, true), sight(47, false)], &gone).len(), 1);
        assert_eq!(ghosts(&[sight(1, true), sight(40, false), sight(41, true)], &gone).len(), 1);
        // On bad links it isn't too late yet.
        assert_eq!(super::ghosts(&[sight(1, true), sight(47, false)], &gone, TOLD_AT_LAST), []);
        assert_eq!(super::ghosts(&[sight(1, true)], &gone, TOLD_AT_LAST).len(), 1);
    }

    #[test]
    fn who_is_back_in_time_or_can_not_be_told_proves_nothing() {
        let sights = [sight(1, true)];
        assert!(ghosts(&sights, &[absence(Some(0), 10, 40)]).is_empty());
        for other in [absence(Some(1), 20, 30), absence(None, 45, 60)] {
            assert!(ghosts(&sights, &[absence(Some(0), 10, 100), other]).is_empty());
        }
        assert_eq!(ghosts(&sights, &[absence(Some(0), 10, 100), absence(Some(2), 0, 99)]).len(), 1);
    }
}
