//! Deletes what has been kept for its time.
//!
//! The expiry index has an entry for each conversation and bucket of time in which it got messages, so
//! a sweep reads only what is due, however much is stored.

use std::{sync::Arc, time::Duration};

use tern_protocol::{
    frame::Span,
    id::{AccountId, ConversationId},
};

use crate::{
    across::{Owners, Place},
    clock::Clock,
    conversation::Age,
    keys,
    metrics::Metrics,
    records::{MessageRecord, RecordError},
    store::{ReadError, Store},
};

/// Index entries read at once.
const STEP_ENTRIES: usize = 256;
/// Messages read at once.
const STEP_MESSAGES: usize = 256;

/// Settings of the sweeper.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long a message that every device has is kept, in milliseconds.
    pub delivered_for_ms: u64,
    /// How long a message that waits for somebody is kept, in milliseconds; not less.
    pub unfetched_for_ms: u64,
    /// Width of a bucket of the index, in milliseconds; that of
    /// [`Rules`](crate::conversation::Rules).
    pub bucket_ms: u64,
    /// Time between two sweeps, in milliseconds.
    pub sweep_every_ms: u64,
}

/// Width of the buckets for messages that are kept so long: a thirtieth of the time, so that
/// nothing is kept much longer than it should be, and no less than a second.
pub fn bucket_ms(keep_for_ms: u64) -> u64 {
    (keep_for_ms / 30).max(1_000)
}

/// A sweep couldn't be finished; the next one goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum SweepError {
    /// The store can't be read.
    Read(ReadError),
    /// A message can't be.
    Record(RecordError),
    /// The conversations' shards are stopping.
    Stopping,
}

impl std::fmt::Display for SweepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Record(error) => error.fmt(f),
            Self::Stopping => f.write_str("the server is stopping"),
        }
    }
}

impl std::error::Error for SweepError {}

/// Finds what is due and has it deleted.
pub struct Sweeper {
    /// Where to look.
    pub store: Arc<dyn Store>,
    /// Who deletes: each node of a cluster what it owns.
    pub owners: Owners,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// Settings.
    pub settings: Settings,
}

impl Sweeper {
    /// Sweeps for ever.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.settings.sweep_every_ms)).await;
            match self.sweep().await {
                Ok(()) | Err(SweepError::Stopping) => {}
                Err(error) => tracing::warn!(%error, "a sweep of old messages wasn't finished"),
            }
        }
    }

    /// Deletes all that is due now.
    pub async fn sweep(&self) -> Result<(), SweepError> {
        let now_ms = self.clock.now_ms();
        let Some(delivered_before_ms) = now_ms.checked_sub(self.settings.delivered_for_ms) else {
            return Ok(());
        };
        let unfetched_before_ms = now_ms.saturating_sub(self.settings.unfetched_for_ms);
        // A bucket is due when its youngest message is.
        let due = delivered_before_ms / self.settings.bucket_ms;
        let mut after = None;
        loop {
            let entries = keys::expiries_before(due, after.as_ref(), STEP_ENTRIES);
            let entries = self.store.scan(entries).await.map_err(SweepError::Read)?;
            for (key, _) in &entries {
                if let Some((bucket, conversation)) = keys::parse_expiry(key)
                    && self.owners.place(conversation) == Place::Here
                {
                    let end_ms = (bucket + 1) * self.settings.bucket_ms;
                    let undelivered = end_ms <= unfetched_before_ms;
                    let sent = self.sent_before(conversation, end_ms).await?;
                    let up_to = sent.last().map_or(0, |(_, span)| span.last);
                    let count: u64 = sent.iter().map(|(_, span)| span.last - span.first + 1).sum();
                    let age = Age { up_to, undelivered, bucket, sent };
                    let aged = self.owners.age(conversation, age).await;
                    aged.map_err(|_| SweepError::Stopping)?;
                    if undelivered {
                        self.metrics.messages_expired.inc_by(count);
                    }
                }
            }
            match entries.last() {
                Some((last, _)) if entries.len() == STEP_ENTRIES => after = Some(last.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// The messages accepted before `end_ms`, by who sent them.
    async fn sent_before(
        &self,
        conversation: ConversationId,
        end_ms: u64,
    ) -> Result<Vec<(AccountId, Span)>, SweepError> {
        let mut sent: Vec<(AccountId, Span)> = Vec::new();
        loop {
            let after = sent.last().map_or(0, |(_, span)| span.last);
            let scan = keys::messages(conversation, after + 1, u64::MAX - 1, STEP_MESSAGES);
            let pairs = self.store.scan(scan).await.map_err(SweepError::Read)?;
            for (key, value) in &pairs {
                let message = MessageRecord::from_bytes(value).map_err(SweepError::Record)?;
                let seq = keys::parse_message_seq(key).filter(|_| message.time_ms < end_ms);
                let Some(seq) = seq else { return Ok(sent) };
                match sent.last_mut() {
                    Some((account, span))
                        if *account == message.account && span.last + 1 == seq =>
                    {
                        span.last = seq;
                    }
                    _ => sent.push((message.account, Span { first: seq, last: seq })),
                }
            }
            if pairs.len() < STEP_MESSAGES {
                return Ok(sent);
            }
        }
    }
}
