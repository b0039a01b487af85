//! The connection to the cluster: made when it is needed, made anew when it has gone deaf, and never waited for
//! without an end.

use std::{
    future::Future,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tikv_client::{
    CheckLevel, Config, Snapshot, Timestamp, Transaction, TransactionClient, TransactionOptions,
    transaction::{HeartbeatOption, ResolveLocksOptions},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::TikvSettings;

/// Bytes of an answer that are taken at most: a scan may bring a few hundred messages of 64 KiB.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How long a collection of garbage may take: it looks for locks everywhere.
const COLLECT_WITHIN: Duration = Duration::from_secs(300);
/// A connection younger than this isn't made anew: what is wrong then is the cluster.
const RENEW_AFTER: Duration = Duration::from_secs(1);

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// The client's error.
    Client(Box<tikv_client::Error>),
    /// No answer in time.
    TimedOut(&'static str),
}

impl From<tikv_client::Error> for CallError {
    fn from(error: tikv_client::Error) -> Self {
        Self::Client(Box::new(error))
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Errors of the client may hold keys, never values.
            Self::Client(error) => write!(f, "{error}"),
            Self::TimedOut(what) => write!(f, "no answer in time: {what}"),
        }
    }
}

#[derive(Clone)]
struct Connected {
    client: TransactionClient,
    since: Instant,
}

/// A cluster and the connection to it.
pub(super) struct Cluster {
    settings: TikvSettings,
    connected: Mutex<Option<Connected>>,
    /// Held by whoever connects, so that one does.
    connecting: tokio::sync::Mutex<()>,
}

impl Cluster {
    pub(super) fn new(settings: TikvSettings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            connected: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn settings(&self) -> &TikvSettings {
        &self.settings
    }

    /// How long one call may take.
    fn patience(&self) -> Duration {
        Duration::from_millis(self.settings.request_timeout_ms)
    }

    /// Begins a transaction to write, with the snapshot in which it reads. They are apart since the client
    /// repeats requests that read.
    pub(super) async fn begin(
        &self,
        options: TransactionOptions,
    ) -> Result<(Transaction, Snapshot), CallError> {
        let connected = self.connect().await?;
        let begun = connected.client.begin_with_options(with_defaults(options));
        let begun = self.stamped(&connected, begun).await?;
        let snapshot = snapshot_at(&connected, begun.start_timestamp());
        Ok((begun, snapshot))
    }

    /// A snapshot of everything that is committed now.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, CallError> {
        let connected = self.connect().await?;
        let stamp = self.stamped(&connected, connected.client.current_timestamp()).await?;
        Ok(snapshot_at(&connected, stamp))
    }

    /// Waits for one call.
    pub(super) async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = tikv_client::Result<T>>,
        deadline: Instant,
    ) -> Result<T, CallError> {
        let deadline = deadline.min(Instant::now() + 2 * self.patience());
        match timeout_at(deadline, call).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(CallError::TimedOut(what)),
        }
    }

    /// Decides the transactions that began no later than `until` and have locked a key of the range, and takes the locks
    /// away.
    pub(super) async fn clean(
        &self,
        range: Range<Vec<u8>>,
        until: &Timestamp,
        deadline: Instant,
    ) -> Result<(), CallError> {
        let connected = self.connect().await?;
        let clean = connected.client.cleanup_locks(range, until, ResolveLocksOptions::default());
        self.call("a clean-up", clean, deadline).await?;
        Ok(())
    }

    /// The time-stamp of so long ago.
    pub(super) async fn stamp_before(&self, age: Duration) -> Result<Timestamp, CallError> {
        let connected = self.connect().await?;
        let mut stamp = self.stamped(&connected, connected.client.current_timestamp()).await?;
        stamp.physical -= i64::try_from(age.as_millis()).unwrap_or(i64::MAX).min(stamp.physical);
        Ok(stamp)
    }

    /// Has the cluster forget what nobody can read who began after `until`, and decides all older transactions.
    pub(super) async fn collect(&self, until: Timestamp) -> Result<(), CallError> {
        let connected = self.connect().await?;
        match timeout(COLLECT_WITHIN, connected.client.gc(until)).await {
            // Whether the point moved: another node may have moved it further.
            Ok(moved) => drop(moved?),
            Err(_) => return Err(CallError::TimedOut("the collection of garbage")),
        }
        Ok(())
    }

    /// Waits for a time-stamp. The stream that brings them has no time-out of its own and may be silent for
    /// ever, so one that doesn't come costs the connection.
    async fn stamped<T>(
        &self,
        connected: &Connected,
        call: impl Future<Output = tikv_client::Result<T>>,
    ) -> Result<T, CallError> {
        let result = match timeout(self.patience(), call).await {
            Ok(Ok(stamped)) => return Ok(stamped),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(CallError::TimedOut("a time-stamp")),
        };
        let mut current = self.connected();
        let is_current = current.as_ref().is_some_and(|now| now.since == connected.since);
        if is_current && connected.since.elapsed() >= RENEW_AFTER {
            *current = None;
        }
        result
    }

    async fn connect(&self) -> Result<Connected, CallError> {
        if let Some(connected) = self.connected().clone() {
            return Ok(connected);
        }
        let connect = async {
            let _one = self.connecting.lock().await;
            if let Some(connected) = self.connected().clone() {
                return Ok(connected);
            }
            let client =
                TransactionClient::new_with_config(self.settings.pd.clone(), self.config()).await?;
            let connected = Connected { client, since: Instant::now() };
            *self.connected() = Some(connected.clone());
            Ok(connected)
        };
        match timeout(2 * self.patience(), connect).await {
            Ok(connected) => connected,
            Err(_) => Err(CallError::TimedOut("connecting")),
        }
    }

    fn config(&self) -> Config {
        let config = Config::default()
            .with_timeout(self.patience())
            .with_grpc_max_decoding_message_size(ANSWER_BYTES);
        match &self.settings.tls {
            Some(tls) => config.with_security(&tls.ca_file, &tls.cert_file, &tls.key_file),
            None => config,
        }
    }

    fn connected(&self) -> std::sync::MutexGuard<'_, Option<Connected>> {
        // One value, which is whole.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn snapshot_at(connected: &Connected, stamp: Timestamp) -> Snapshot {
    connected.client.snapshot(stamp, with_defaults(TransactionOptions::new_optimistic()))
}

/// A transaction that is given up is no panic, and needs no heartbeat: one that takes longer than its
/// locks live may be rolled back by whoever meets them.
fn with_defaults(options: TransactionOptions) -> TransactionOptions {
    options.drop_check(CheckLevel::None).heartbeat_option(HeartbeatOption::NoHeartbeat)
}
