//! Moving committed changes from memory to the tree, so that the log can be cut.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Shared,
    base::{Base, BaseError},
    layer::Layer,
    log,
};

/// The rest between two steps of a checkpoint that is ahead of its schedule: at least this.
const SHORTEST_REST: Duration = Duration::from_millis(5);
/// And at most this, so that a checkpoint ends when nothing more is committed.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// A layer to write.
pub(super) struct Job {
    pub(super) layer: Arc<Layer>,
    /// The last commit in it.
    pub(super) applied: u64,
    /// The log file in which the commit after it will be.
    pub(super) segment: u64,
}

/// The checkpoint thread: writes one layer after the other.
pub(super) struct Checkpointer {
    pub(super) shared: Arc<Shared>,
    pub(super) base: Base,
    pub(super) dir: PathBuf,
    pub(super) step_keys: usize,
    pub(super) retired: Arc<log::Retired>,
    pub(super) jobs: Receiver<Job>,
    pub(super) done: Sender<()>,
}

impl Checkpointer {
    pub(super) fn run(self) {
        while let Ok(job) = self.jobs.recv() {
            match self.write(&job) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.shared.poison(format!("a checkpoint failed: {error}"));
                    return;
                }
            }
            self.cut_log(job.segment);
            if self.done.send(()).is_err() {
                return;
            }
        }
    }

    /// Returns `false` if the store closed meanwhile: the log still has everything.
    fn write(&self, job: &Job) -> Result<bool, BaseError> {
        if !self.next_segment_exists(job.segment)? {
            return Ok(false);
        }
        let began = Instant::now();
        let mut steps = 0_u64;
        let total = job.layer.changes();
        let mut merge = self.base.merge(&job.layer, self.step_keys);
        loop {
            let done = merge.step(job.applied, job.segment)?;
            steps += 1;
            let base = Arc::new(self.base.snapshot()?);
            {
                // A fresh snapshot lets the tree reuse the pages of the last one.
                let mut view = self.shared.view_mut();
                view.base = base;
                if done {
                    view.frozen = None;
                }
            }
            if done {
                break;
            }
            if self.shared.closing.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.rest(merge.written(), total);
        }
        tracing::debug!(
            steps,
            layer_bytes = job.layer.bytes(),
            duration_ms = began.elapsed().as_millis(),
            "a checkpoint is written"
        );
        Ok(true)
    }

    /// Waits while the checkpoint is ahead of its schedule, which is to be done when the next
    /// layer is half full: evenly spread, its syncs are least in the way of the log's.
    fn rest(&self, written: usize, total: usize) {
        let progress_permille = written.saturating_mul(1_000) / total.max(1);
        let mut rested = Duration::ZERO;
        while rested < LONGEST_REST
            && progress_permille > 2 * self.shared.fill_permille.load(Ordering::Relaxed)
            && !self.shared.closing.load(Ordering::Relaxed)
        {
            thread::sleep(SHORTEST_REST);
            rested += SHORTEST_REST;
        }
    }

    /// Waits until the file is there that the tree will point to, so that its absence means
    /// damage when the store opens. Returns `false` if the store stopped meanwhile.
    fn next_segment_exists(&self, segment: u64) -> Result<bool, BaseError> {
        let path = log::segment_path(&self.dir, segment);
        while !path.exists() {
            if self.shared.closing.load(Ordering::Relaxed) || self.shared.poisoned().is_some() {
                return Ok(false);
            }
            thread::sleep(LONGEST_REST);
        }
        log::sync_dir(&self.dir).map_err(|error| BaseError::Io(error.to_string()))?;
        Ok(true)
    }

    /// Retires the log files that the tree has made superfluous.
    fn cut_log(&self, segment: u64) {
        // What can't be removed now is removed when the store opens next.
        let Ok(segments) = log::list(&self.dir) else {
            return;
        };
        for (number, path) in segments {
            if number < segment
                && let Err(error) = self.retired.put(&path)
            {
                tracing::warn!(path = %path.display(), %error, "a log file stays");
            }
        }
    }
}
