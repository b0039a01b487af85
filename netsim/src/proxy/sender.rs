//! The thread that hands packets on when their time has come.

use super::shared::Shared;
use crate::lateness::wake_precisely;

/// Until the proxy stops.
pub(super) fn run(shared: &Shared) {
    wake_precisely();
    let mut core = shared.lock();
    while !core.stopped {
        let now = shared.now();
        if let Some(due) = core.due(now) {
            // Without the lock, so that receiving goes on.
            drop(core);
            let sent = due.send();
            core = shared.lock();
            if sent.is_err() {
                core.note_unsent(due.len());
            }
        } else {
            core = shared.wait(core, now);
        }
    }
}
