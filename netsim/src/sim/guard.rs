//! A bound for worlds that never come to rest.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::sync::Notify;

/// A world was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stuck {
    /// So much virtual time has passed in it.
    NeverRests(Duration),
    /// For so long, in real time, no virtual time has passed: somebody always has something to do.
    TimeStands(Duration),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverRests(passed) => {
                write!(f, "the world doesn't come to rest in {} virtual seconds", passed.as_secs())
            }
            Self::TimeStands(passed) => write!(
                f,
                "time stands still in the world: somebody had something to do for {} real seconds",
                passed.as_secs()
            ),
        }
    }
}

impl std::error::Error for Stuck {}

/// How often virtual time is seen to pass.
const PULSE: Duration = Duration::from_secs(1);

/// Runs a world until it ends, gives it up after `at_most` of virtual time, or when a virtual second takes longer
/// than `standing` in real time. The latter depends on the machine, as nothing else does, and says so.
///
/// A task that never gives the thread away can't be given up.
///
/// # Errors
///
/// [`Stuck`] says why the world was given up.
pub async fn within<T>(
    at_most: Duration,
    standing: Duration,
    world: impl Future<Output = T>,
) -> Result<T, Stuck> {
    let (seconds, stands) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let (end, ended) = mpsc::channel::<()>();
    let (seen, alarm) = (seconds.clone(), stands.clone());
    // Of another thread, which goes on when this one doesn't get anywhere. Without it there is no bound.
    let _ = thread::Builder::new().name("watch".into()).spawn(move || {
        let mut last = 0;
        while ended.recv_timeout(standing) == Err(mpsc::RecvTimeoutError::Timeout) {
            let now = seen.load(Relaxed);
            if now == last {
                alarm.notify_one();
            }
            last = now;
        }
    });
    let pulse = async {
        loop {
            tokio::time::sleep(PULSE).await;
            seconds.fetch_add(1, Relaxed);
        }
    };
    let result = tokio::select! {
        biased;
        () = stands.notified() => Err(Stuck::TimeStands(standing)),
        result = world => Ok(result),
        () = tokio::time::sleep(at_most) => Err(Stuck::NeverRests(at_most)),
        () = pulse => Err(Stuck::NeverRests(at_most)),
    };
    drop(end);
    result
}

#[cfg(test)]
mod tests {
    use super::{super::in_virtual_time, *};

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_world_that_ends_is_left_alone() {
        let world = || async { tokio::time::sleep(seconds(3_599)).await };
        let ended = in_virtual_time(|| within(seconds(3_600), seconds(60), world())).unwrap();
        assert_eq!(ended, Ok(()));
    }

    #[test]
    fn a_world_that_never_ends_is_given_up() {
        let idle = in_virtual_time(|| within(seconds(60), seconds(60), std::future::pending()));
        assert_eq!(idle.unwrap(), Err::<(), _>(Stuck::NeverRests(seconds(60))));
        let busy = async || loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let busy = in_virtual_time(|| within(seconds(60), seconds(60), busy()));
        assert_eq!(busy.unwrap(), Err::<(), _>(Stuck::NeverRests(seconds(60))));
    }

    #[test]
    fn a_world_in_which_time_stands_is_given_up() {
        let world = || async {
            tokio::spawn(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
            std::future::pending().await
        };
        let standing = Duration::from_millis(50);
        let stuck = in_virtual_time(|| within(seconds(60), standing, world())).unwrap();
        assert_eq!(stuck, Err::<(), _>(Stuck::TimeStands(standing)));
    }
}
