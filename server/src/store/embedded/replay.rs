//! Reading the log back when the store opens, and telling a torn end from damage.
//!
//! Only one frame is written at a time, and the next one follows after the sync of the
//! last. So a crash can leave at most one broken frame, it is the last, and nobody was told
//! that it was committed. Anything else is damage to acknowledged writes: a frame behind a
//! broken one, a gap in the commit numbers, a missing file. What can't be told from a torn
//! end is damage to the very last frame after a crash; after a clean close an empty frame
//! follows it, so then that is noticed too.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{
    OpenError,
    base::Meta,
    frame::{self, Seal},
    layer::Layer,
    log,
};

/// What the log held.
#[derive(Default)]
pub(super) struct Replayed {
    /// The commits since the last checkpoint.
    pub(super) layer: Layer,
    /// The last commit number.
    pub(super) number: u64,
    /// The number of the file for the next commit.
    pub(super) next: u64,
    /// The unused files from there on.
    pub(super) ready: Vec<log::Spare>,
    /// Bytes of frames read.
    pub(super) bytes: u64,
}

/// The last whole frame: which file, where, and its bytes.
type LastFrame = (PathBuf, u64, Vec<u8>);

/// Reads every frame that the tree doesn't hold yet.
pub(super) fn replay(dir: &Path, meta: Meta, segment_bytes: u64) -> Result<Replayed, OpenError> {
    let failed = |doing: &'static str, path: &Path| {
        let path = path.to_path_buf();
        move |source: io::Error| OpenError::Io { doing, path, source }
    };
    let mut replayed = Replayed { number: meta.applied, next: meta.segment, ..Replayed::default() };
    let mut last = None;
    let mut expected_segment = meta.segment;

    for (segment, path) in log::list(dir).map_err(failed("listing", dir))? {
        if segment < meta.segment {
            // A crash came between the end of a checkpoint and the removal.
            fs::remove_file(&path).map_err(failed("removing", &path))?;
            continue;
        }
        if segment != expected_segment {
            break;
        }
        expected_segment += 1;
        let data = fs::read(&path).map_err(failed("reading", &path))?;
        let seal = Seal { salt: meta.salt, segment };
        if read_segment(&path, &data, seal, &mut replayed, &mut last)? {
            replayed.next = segment + 1;
        }
    }
    refuse_missing(dir, meta, expected_segment, &failed)?;

    if let Some((path, offset, bytes)) = last {
        // The frame may be in the kernel's memory only: the process that wrote it may have
        // died before its sync, or because its sync failed. It is about to be served, so it
        // is written and synced once more.
        rewrite(&path, offset, &bytes).map_err(failed("rewriting the end of", &path))?;
    }
    tracing::debug!(commits = replayed.number - meta.applied, "the log is read");
    prepare_next(dir, segment_bytes, &mut replayed).map_err(failed("preparing the log in", dir))?;
    Ok(replayed)
}

/// Returns whether the file was in use.
fn read_segment(
    path: &Path,
    data: &[u8],
    seal: Seal,
    replayed: &mut Replayed,
    last: &mut Option<LastFrame>,
) -> Result<bool, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: path.to_path_buf(), what };
    let mut at = 0;
    while let Some(frame) = frame::parse(seal, &data[at..]) {
        if frame.number != replayed.number + 1 {
            let (number, expected) = (frame.number, replayed.number + 1);
            return Err(damaged(format!(
                "at byte {at} is commit {number} where commit {expected} should be: \
                 acknowledged commits are missing"
            )));
        }
        let Some(mutations) = frame::mutations(frame.payload) else {
            return Err(damaged(format!("the commit at byte {at} can't be understood")));
        };
        for mutation in &mutations {
            replayed.layer.apply(mutation);
        }
        replayed.number = frame.number;
        let end = at + frame::HEADER_BYTES + frame.payload.len();
        *last = Some((path.to_path_buf(), at as u64, data[at..end].to_vec()));
        replayed.bytes += (end - at) as u64;
        at = end;
    }
    let rest = &data[at..];
    if let Some((distance, number)) = frame::find(seal, rest) {
        let behind = at + distance;
        return Err(damaged(format!(
            "the bytes from {at} to {behind} are no commit, but commit {number} follows: \
             acknowledged commits are lost"
        )));
    }
    let torn = frame::begun(rest, replayed.number + 1);
    if torn {
        tracing::warn!(
            path = %path.display(),
            offset_bytes = at,
            "the log ends in a broken commit that was not acknowledged; it is dropped"
        );
    }
    Ok(at > 0 || torn)
}

/// The file that the tree points to exists from before the checkpoint that says so, and
/// files are made in the order of their numbers.
fn refuse_missing<F: FnOnce(io::Error) -> OpenError>(
    dir: &Path,
    meta: Meta,
    expected_segment: u64,
    failed: &impl Fn(&'static str, &Path) -> F,
) -> Result<(), OpenError> {
    let segments = log::list(dir).map_err(failed("listing", dir))?;
    let fresh = meta.applied == 0 && segments.is_empty();
    let beyond = segments.iter().any(|&(segment, _)| segment > expected_segment);
    if beyond || (expected_segment == meta.segment && !fresh) {
        return Err(OpenError::Damaged {
            path: log::segment_path(dir, expected_segment),
            what: "this log file is missing".into(),
        });
    }
    Ok(())
}

fn rewrite(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// Collects the unused files behind the last used one, up to the first that is too short
/// for the present setting: that one and those behind it are replaced when they are needed.
fn prepare_next(dir: &Path, segment_bytes: u64, replayed: &mut Replayed) -> io::Result<()> {
    let mut expected = replayed.next;
    for (segment, path) in log::list(dir)? {
        if segment < replayed.next {
            continue;
        }
        if segment != expected || path.metadata()?.len() < segment_bytes {
            break;
        }
        expected += 1;
        let file: File = OpenOptions::new().read(true).write(true).open(&path)?;
        replayed.ready.push((segment, file));
    }
    Ok(())
}
