//! A device's mailbox, as it is when the device signs in.

use tern_protocol::{
    frame::Mailbox,
    id::{ConversationId, DeviceId},
};

use super::Shared;
use crate::{
    directory::DirectoryError,
    keys,
    records::{CursorRecord, MetaRecord, Record},
};

/// Marks read at once.
const MARKS: usize = 256;

/// A conversation that waits in a mailbox: its id, its device's cursor and the position behind which
/// nothing is for the device, when it was last spoken in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) conversation: ConversationId,
    cursor: u64,
    position: u64,
    last_ms: u64,
}

impl Waiting {
    /// What the device has when it has caught up; `None` if no entry waits for it, but receipts.
    pub(super) fn awaited(&self) -> Option<u64> {
        (self.position > self.cursor).then_some(self.position)
    }
}

/// What the welcome says of a mailbox.
pub(super) fn count(waiting: &[Waiting]) -> Mailbox {
    let entries = waiting.iter().filter(|waiting| waiting.awaited().is_some());
    Mailbox {
        conversations: entries.clone().count().try_into().unwrap_or(u32::MAX),
        positions: entries.map(|waiting| waiting.position - waiting.cursor).sum(),
    }
}

/// A device's mailbox, the conversation with the newest entry first.
pub(super) async fn waiting(
    shared: &Shared,
    device: DeviceId,
) -> Result<Vec<Waiting>, DirectoryError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let marks = shared.store.scan(keys::marks(device, after, MARKS)).await?;
        for (key, _) in &marks {
            let Some(conversation) = keys::parse_mark(key) else { continue };
            after = Some(conversation);
            let Some(meta) = shared.store.get(keys::meta(conversation)).await? else { continue };
            let meta = MetaRecord::from_bytes(&meta)?;
            let cursor = shared.store.get(keys::cursor(conversation, device)).await?;
            let cursor = match cursor {
                Some(cursor) => CursorRecord::from_bytes(&cursor)?.seq,
                None => continue,
            };
            let position =
                if meta.last_device == device.get() { meta.run_start - 1 } else { meta.head };
            all.push(Waiting { conversation, cursor, position, last_ms: meta.last_ms });
        }
        if marks.len() < MARKS {
            break;
        }
    }
    all.sort_by_key(|waiting| (std::cmp::Reverse(waiting.last_ms), waiting.conversation));
    Ok(all)
}
