//! A shard: the single writer of its conversations.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use futures_util::future::try_join_all;
use lru::LruCache;
use tern_protocol::{
    code::Code,
    frame::{Accepted, Ack, Refused},
    id::{AccountId, ConversationId, DeviceId},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Audience, Command,
    state::{Conversation, News, Rules, Snapshot},
    task,
};
use crate::{
    clock::Clock,
    directory::{AccountInfo, Directory, DirectoryError},
    keys,
    metrics::Metrics,
    store::{CommitError, Store, Transaction},
};

/// How many times commands are applied anew when their commit failed, before they are given up.
const ATTEMPTS: u32 = 5;
/// Pause before they are, times the number of attempts, in milliseconds.
const RETRY_MS: u64 = 50;
/// What a client is told to wait when its send was given up, in milliseconds.
const GIVEN_UP_RETRY_MS: u64 = 1_000;
/// Keys read to load one conversation: its record, cursors of all devices and receipts of two
/// accounts, and as many of devices that were removed and not tidied up.
const LOAD_KEYS: usize = 128;
/// Entries that are deleted without waiting for the conversation to be idle.
const DELETE_AT_ONCE: u64 = 64;

/// Settings of the shards.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Number of shards.
    pub shards: usize,
    /// Commands that wait for a shard; more wait in their streams.
    pub queue_commands: usize,
    /// Commands in one commit.
    pub batch_commands: usize,
    /// Bytes of envelopes in one commit, but for the last.
    pub batch_bytes: usize,
    /// Conversations that a shard keeps in memory.
    pub cached_conversations: usize,
    /// How long a conversation must be idle before it is tidied up, in milliseconds.
    pub settle_ms: u64,
    /// Whether other processes work on the same store, which may believe that they own a conversation of ours. Then
    /// nothing is said for which memory is the only witness, and devices of accounts may have changed elsewhere.
    pub is_shared: bool,
    /// See [`Rules`].
    pub rules: Rules,
}

/// One shard.
pub(super) struct Shard {
    store: Arc<dyn Store>,
    directory: Directory,
    audience: Arc<dyn Audience>,
    metrics: Arc<Metrics>,
    clock: Clock,
    settings: Settings,
    hot: LruCache<ConversationId, Conversation>,
    /// Conversations to be tidied up, by the time of their last change.
    touched: BTreeMap<ConversationId, Instant>,
    /// Conversations of batches that failed: what of them was committed after all, nobody was told.
    unsure: BTreeSet<ConversationId>,
    /// Acks of conversations whose state was dropped after a commit that failed: devices send them once, and
    /// what they cover would be kept until the device connects anew.
    acked: BTreeMap<ConversationId, Vec<(DeviceId, Ack)>>,
}

impl Shard {
    pub(super) fn new(
        store: Arc<dyn Store>,
        directory: Directory,
        audience: Arc<dyn Audience>,
        metrics: Arc<Metrics>,
        clock: Clock,
        settings: Settings,
    ) -> Self {
        let capacity =
            NonZeroUsize::new(settings.cached_conversations).unwrap_or(NonZeroUsize::MIN);
        Self {
            store,
            directory,
            audience,
            metrics,
            clock,
            settings,
            hot: LruCache::new(capacity),
            touched: BTreeMap::new(),
            unsure: BTreeSet::new(),
            acked: BTreeMap::new(),
        }
    }

    /// Works until the face is gone and the queue is empty, then tidies up.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let settle = Duration::from_millis(self.settings.settle_ms.max(1));
        let mut next_settle = Instant::now() + settle;
        loop {
            let first = tokio::select! {
                biased;
                first = queue.recv() => first,
                () = tokio::time::sleep_until(next_settle), if self.has_chores() => {
                    self.tell_unsure().await;
                    self.ack_again().await;
                    self.settle(Instant::now().checked_sub(settle)).await;
                    next_settle = Instant::now() + settle;
                    continue;
                }
            };
            let Some(first) = first else { break };
            let batch = self.collect(first, &mut queue);
            self.work_off(batch).await;
            if Instant::now() >= next_settle {
                self.settle(Instant::now().checked_sub(settle)).await;
                next_settle = Instant::now() + settle;
            }
        }
        self.settle(Some(Instant::now())).await;
    }

    /// Takes what else waits, as much as goes into one commit.
    fn collect(&self, first: Command, queue: &mut mpsc::Receiver<Command>) -> Vec<Command> {
        let mut bytes = first.envelope_bytes();
        let mut batch = vec![first];
        while batch.len() < self.settings.batch_commands
            && bytes < self.settings.batch_bytes
            && let Ok(command) = queue.try_recv()
        {
            bytes += command.envelope_bytes();
            batch.push(command);
        }
        batch
    }

    fn has_chores(&self) -> bool {
        !self.touched.is_empty() || !self.unsure.is_empty() || !self.acked.is_empty()
    }

    /// Remembers the acks of a conversation whose state is dropped, since it may not be what is stored.
    fn drop_state(&mut self, id: ConversationId, conversation: &Conversation) {
        // Of more than that, they come again when the devices connect.
        if self.acked.len() < self.settings.cached_conversations {
            self.acked.insert(id, conversation.acks().collect());
        }
    }

    /// Applies anew what was acked before a commit failed. They are states, so twice is like once.
    async fn ack_again(&mut self) {
        while let Some((conversation, acks)) = self.acked.pop_first() {
            let (commands, answers): (Vec<_>, Vec<_>) = acks
                .iter()
                .map(|&(device, ack)| {
                    let (reply, answer) = task();
                    (Command::Ack { conversation, device, ack, reply }, answer)
                })
                .unzip();
            self.work_off(commands).await;
            let were_given_up = answers.into_iter().any(|mut answer| answer.try_recv().is_err());
            if were_given_up {
                // Nothing else would fare better; commands that wait have been held up for long enough.
                self.acked.insert(conversation, acks);
                return;
            }
        }
    }

    /// Tells the devices of conversations in which something may have happened unnoticed: a batch that is
    /// applied anew finds done what its first try has done, and has no news of it.
    async fn tell_unsure(&mut self) {
        for id in std::mem::take(&mut self.unsure) {
            let loaded;
            let conversation = match self.hot.peek(&id) {
                Some(conversation) => Some(conversation),
                None => match self.load(id).await {
                    Ok(conversation) => {
                        loaded = conversation;
                        loaded.as_ref()
                    }
                    Err(error) => {
                        tracing::warn!(%error, "devices aren't told yet what may have happened");
                        self.unsure.insert(id);
                        continue;
                    }
                },
            };
            for device in conversation.into_iter().flat_map(Conversation::devices) {
                self.audience.tell(device, id, News::Unsure);
            }
        }
    }

    /// Applies a batch and commits it, again if need be.
    async fn work_off(&mut self, batch: Vec<Command>) {
        let mut batch = batch;
        for attempt in 1.. {
            if attempt > 1
                && let Err(error) = self.refresh_accounts(&mut batch).await
            {
                tracing::warn!(%error, "the devices of accounts can't be read");
            }
            let outcome = self.try_batch(&batch).await;
            if outcome.as_ref().is_err_and(|error| error.may_have_happened) {
                // Of more than that, devices learn when they connect next.
                let room = self.settings.cached_conversations.saturating_sub(self.unsure.len());
                self.unsure.extend(batch.iter().map(Command::conversation).take(room));
            }
            match outcome {
                Ok((results, news)) => {
                    for (command, result) in batch.into_iter().zip(results) {
                        answer(command, result);
                    }
                    for (device, conversation, news) in news {
                        self.audience.tell(device, conversation, news);
                    }
                    self.tell_unsure().await;
                    return;
                }
                Err(error) if attempt < ATTEMPTS => {
                    if error.is_stale && attempt == 1 {
                        // Somebody else has written, which is nothing to wait for.
                        tracing::debug!(%error, "a batch is applied anew");
                    } else {
                        tracing::warn!(%error, attempt, "a batch didn't commit and is applied anew");
                        let pause = Duration::from_millis(RETRY_MS * u64::from(attempt));
                        tokio::time::sleep(pause).await;
                    }
                    batch.retain(|command| !command.is_abandoned());
                }
                Err(error) => {
                    tracing::error!(%error, commands = batch.len(), "a batch was given up");
                    // Dropping the replies tells every caller; senders are refused for now, and
                    // since sends are idempotent that is right whatever became of the commit.
                    for command in batch {
                        command.give_up();
                    }
                    return;
                }
            }
        }
    }

    async fn try_batch(
        &mut self,
        batch: &[Command],
    ) -> Result<(Vec<CommandResult>, Vec<(DeviceId, ConversationId, News)>), BatchError> {
        let wanted: BTreeSet<ConversationId> = batch.iter().map(Command::conversation).collect();
        // A batch may be larger than the cache: its conversations must all stay until it commits.
        let mut at_work: BTreeMap<ConversationId, Option<Conversation>> = BTreeMap::new();
        let mut from_memory = BTreeSet::new();
        for id in wanted {
            let conversation = match self.hot.pop(&id) {
                Some(conversation) => {
                    self.metrics.conversation_hits.inc();
                    from_memory.insert(id);
                    Some(conversation)
                }
                None => self.load(id).await?,
            };
            at_work.insert(id, conversation);
        }
        let now_ms = self.clock.now_ms();
        let mut results = Vec::with_capacity(batch.len());
        let mut news = Vec::new();
        let mut to_commit = BTreeSet::new();
        let mut to_verify = BTreeSet::new();
        let mut told = Vec::new();
        for command in batch {
            let id = command.conversation();
            let slot = at_work.entry(id).or_default();
            let (result, rests_on) =
                apply(command, id, slot, now_ms, &self.settings.rules, &mut told);
            news.extend(told.drain(..).map(|(device, news)| (device, id, news)));
            results.push(result);
            match rests_on {
                RestsOn::Commit => drop(to_commit.insert(id)),
                RestsOn::Memory => drop(to_verify.insert(id)),
                RestsOn::Nothing => {}
            }
        }
        let appends =
            batch.iter().filter(|command| matches!(command, Command::Append { .. })).count();
        let mut deleted = 0;
        let mut transaction = Transaction::default();
        for id in &to_commit {
            if let Some(Some(conversation)) = at_work.get_mut(id) {
                if conversation.deletable(&self.settings.rules) >= DELETE_AT_ONCE {
                    conversation.settle(&self.settings.rules);
                }
                // The condition of the commit is as good as looking.
                match conversation.take_mutations(&mut transaction) {
                    true => drop(to_verify.remove(id)),
                    false => drop(to_verify.insert(*id)),
                }
                deleted += conversation.take_deleted();
            }
        }
        if self.settings.is_shared {
            add_accounts(batch, &results, &mut transaction);
        }
        // On an error everything at work is dropped here, and with it the state that isn't stored.
        to_verify.retain(|id| from_memory.contains(id));
        let outcome = match self.verify(&to_verify, &at_work, batch, &results).await {
            Ok(()) => self.commit(transaction, appends).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            for (id, conversation) in &at_work {
                if let Some(conversation) = conversation {
                    self.drop_state(*id, conversation);
                }
            }
            return Err(error);
        }
        self.metrics.messages_deleted.inc_by(deleted);
        let now = Instant::now();
        for (id, conversation) in at_work {
            if let Some(conversation) = conversation.filter(Conversation::exists) {
                self.touched.insert(id, now);
                self.keep(id, conversation).await;
            }
        }
        Ok((results, news))
    }

    /// Looks whether the store still has the conversations as they are in memory, and the devices of accounts for
    /// whose sake something was refused.
    async fn verify(
        &self,
        wanted: &BTreeSet<ConversationId>,
        at_work: &BTreeMap<ConversationId, Option<Conversation>>,
        batch: &[Command],
        results: &[CommandResult],
    ) -> Result<(), BatchError> {
        if !self.settings.is_shared {
            return Ok(());
        }
        let conversations = wanted.iter().filter_map(|id| Some((*id, at_work.get(id)?.as_ref()?)));
        let looks = conversations.map(async |(id, conversation)| {
            let stored = self.store.get(keys::meta(id)).await;
            let stored = stored.map_err(|error| BatchError::of_reading(&error))?;
            match stored.as_ref() == conversation.stored_meta() {
                true => Ok(()),
                false => Err(BatchError::stale("another owner has written to a conversation")),
            }
        });
        try_join_all(looks).await?;
        for (command, result) in batch.iter().zip(results) {
            let (Command::Append { accounts, .. }, CommandResult::Append(Err(refused))) =
                (command, result)
            else {
                continue;
            };
            if !matches!(refused.code, Code::UnknownDevice | Code::PeerGone) {
                continue;
            }
            for account in accounts {
                let checked = self.directory.check(account).await;
                if !checked.map_err(|error| BatchError::of_reading(&error))? {
                    return Err(BatchError::stale("the devices of an account have changed"));
                }
            }
        }
        Ok(())
    }

    /// Reads the accounts of appends again that the directory has forgotten meanwhile.
    async fn refresh_accounts(&self, batch: &mut [Command]) -> Result<(), DirectoryError> {
        if !self.settings.is_shared {
            return Ok(());
        }
        for command in batch {
            if let Command::Append { accounts, .. } = command {
                for account in accounts.iter() {
                    self.directory.check(account).await?;
                }
                let ids = accounts.each_ref().map(|account| account.account);
                *accounts = self.directory.accounts(ids).await?;
            }
        }
        Ok(())
    }

    async fn load(&self, id: ConversationId) -> Result<Option<Conversation>, BatchError> {
        self.metrics.conversation_misses.inc();
        self.metrics.store_scans.inc();
        let pairs = self
            .store
            .scan(keys::conversation(id, LOAD_KEYS))
            .await
            .map_err(|error| BatchError::of_reading(&error))?;
        Conversation::load(id, &pairs).map_err(|error| BatchError::of_reading(&error))
    }

    async fn commit(&self, transaction: Transaction, appends: usize) -> Result<(), BatchError> {
        if transaction.mutations.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let result = self.store.commit(transaction).await;
        self.metrics.commit.observe(started.elapsed().as_secs_f64());
        if appends > 0 {
            self.metrics.commit_appends.observe(appends as f64);
        }
        match &result {
            Ok(()) => {}
            Err(CommitError::Conflict { .. }) => drop(self.metrics.commits_conflicting.inc()),
            Err(_) => drop(self.metrics.commits_failed.inc()),
        }
        // A conflict means that our state is stale; an unknown outcome, that it may be. Both are
        // answered by loading again: what was committed is then seen, and not applied twice.
        result.map_err(|error| BatchError {
            may_have_happened: !matches!(error, CommitError::Unavailable(_)),
            is_stale: matches!(error, CommitError::Conflict { .. }),
            why: error.to_string(),
        })
    }

    /// Puts a conversation among the hot ones. The one that has to go is stored first if it has
    /// acks that weren't worth a commit of their own.
    async fn keep(&mut self, id: ConversationId, conversation: Conversation) {
        if let Some((evicted, mut state)) = self.hot.push(id, conversation)
            && evicted != id
        {
            self.touched.remove(&evicted);
            state.settle(&self.settings.rules);
            let mut transaction = Transaction::default();
            if state.take_mutations(&mut transaction)
                && let Err(error) = self.commit(transaction, 0).await
            {
                tracing::warn!(%error, "an evicted conversation isn't tidied up yet");
                self.drop_state(evicted, &state);
            }
        }
    }

    /// Tidies up the conversations that haven't changed since `before`.
    async fn settle(&mut self, before: Option<Instant>) {
        let Some(before) = before else { return };
        let due: Vec<ConversationId> = self
            .touched
            .iter()
            .filter(|&(_, &last)| last <= before)
            .map(|(&id, _)| id)
            .take(self.settings.batch_commands.max(1))
            .collect();
        let mut transaction = Transaction::default();
        for id in &due {
            self.touched.remove(id);
            let Some(members) = self.hot.peek(id).map(Conversation::members) else { continue };
            let accounts = match self.directory.accounts(members).await {
                Ok(accounts) => accounts,
                Err(error) => {
                    tracing::warn!(%error, "devices of a conversation can't be read");
                    self.touched.insert(*id, Instant::now());
                    continue;
                }
            };
            if let Some(conversation) = self.hot.peek_mut(id) {
                conversation.follow(&accounts);
                conversation.settle(&self.settings.rules);
                if conversation.take_mutations(&mut transaction) && self.settings.is_shared {
                    transaction.conditions.extend(accounts.iter().map(|info| info.is_current()));
                }
                self.metrics.messages_deleted.inc_by(conversation.take_deleted());
            }
        }
        if let Err(error) = self.commit(transaction, 0).await {
            tracing::warn!(%error, "conversations aren't tidied up yet");
            for id in due {
                // With what is true by then, it is tried again when something happens there.
                if let Some(members) = self.hot.peek(&id).map(Conversation::members) {
                    members.into_iter().for_each(|account| self.directory.forget(account));
                }
                if let Some(conversation) = self.hot.pop(&id) {
                    self.drop_state(id, &conversation);
                }
            }
        }
    }
}

/// Why a batch must be applied anew.
#[derive(Debug)]
struct BatchError {
    why: String,
    /// Whether something was appended of which nobody has news: by this batch, or by another owner.
    may_have_happened: bool,
    /// Whether what was in memory was old.
    is_stale: bool,
}

impl BatchError {
    fn of_reading(error: &impl ToString) -> Self {
        Self { why: error.to_string(), may_have_happened: false, is_stale: false }
    }

    fn stale(why: &str) -> Self {
        Self { why: why.to_owned(), may_have_happened: true, is_stale: true }
    }
}

impl std::fmt::Display for BatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

/// The result of a command, kept apart from the command so that it can be applied again.
enum CommandResult {
    Append(Result<Accepted, Refused>),
    Read(Result<u64, Code>),
    Done,
    Snapshot(Option<Snapshot>),
    Members(Option<[AccountId; 2]>),
}

/// What makes a result true, so that it may be told.
enum RestsOn {
    /// Its effect must be durable first.
    Commit,
    /// It follows from the conversation as it is in memory.
    Memory,
    /// It is true anyway.
    Nothing,
}

/// The devices of the accounts must be as they were when the messages were addressed to them.
fn add_accounts(batch: &[Command], results: &[CommandResult], transaction: &mut Transaction) {
    let mut accounts = BTreeMap::new();
    for (command, result) in batch.iter().zip(results) {
        if let (Command::Append { accounts: members, .. }, CommandResult::Append(Ok(_))) =
            (command, result)
        {
            accounts.extend(members.iter().map(|info| ((info.account, &info.version), info)));
        }
    }
    transaction.conditions.extend(accounts.values().map(|info| info.is_current()));
}

/// Applies one command. Says what its result rests on.
fn apply(
    command: &Command,
    id: ConversationId,
    slot: &mut Option<Conversation>,
    now_ms: u64,
    rules: &Rules,
    news: &mut Vec<(DeviceId, News)>,
) -> (CommandResult, RestsOn) {
    let commit_if = |is_done| if is_done { RestsOn::Commit } else { RestsOn::Memory };
    match command {
        Command::Append { device, accounts, send, .. } => {
            let [a, b]: [&Arc<AccountInfo>; 2] = accounts.each_ref();
            let conversation =
                slot.get_or_insert_with(|| Conversation::new(id, a.account, b.account));
            let result = conversation.append(*device, send, accounts, now_ms, rules, news);
            (CommandResult::Append(result), commit_if(result.is_ok()))
        }
        Command::Read { account, up_to, .. } => {
            let result = match slot {
                Some(conversation) => conversation.read(*account, *up_to, news),
                None if *up_to == 0 => Ok(0),
                None => Err(Code::MarkBeyondHead),
            };
            (CommandResult::Read(result), commit_if(result.is_ok()))
        }
        Command::Ack { device, ack, .. } => {
            let before = news.len();
            let is_behind = slot.as_ref().is_some_and(|conversation| conversation.is_behind(*ack));
            if let Some(conversation) = slot {
                conversation.ack(*device, *ack, news);
            }
            // An ack that nobody is told of may be lost: the device is sent the same again, and
            // knows it. So it waits for the next commit of its conversation.
            let rests_on = match news.len() > before {
                true => RestsOn::Commit,
                // What isn't there can't have been sent to it, so somebody else must have appended it.
                false if is_behind => RestsOn::Memory,
                false => RestsOn::Nothing,
            };
            (CommandResult::Done, rests_on)
        }
        Command::Snapshot { device, .. } => {
            let snapshot = slot.as_ref().and_then(|conversation| conversation.snapshot(*device));
            (CommandResult::Snapshot(snapshot), RestsOn::Memory)
        }
        Command::Members { .. } => {
            // The members of a conversation stay, and one that isn't there was looked for in the store.
            let members = slot.as_ref().map(Conversation::members);
            (CommandResult::Members(members), RestsOn::Nothing)
        }
        Command::Age { age, .. } => {
            if let Some(conversation) = slot {
                conversation.age(age, news);
            }
            (CommandResult::Done, RestsOn::Commit)
        }
    }
}

/// Tells the caller.
fn answer(command: Command, result: CommandResult) {
    match (command, result) {
        (Command::Append { reply, .. }, CommandResult::Append(result)) => {
            reply.send(result);
        }
        (Command::Read { reply, .. }, CommandResult::Read(result)) => {
            reply.send(result);
        }
        (Command::Snapshot { reply, .. }, CommandResult::Snapshot(snapshot)) => {
            reply.send(snapshot);
        }
        (Command::Members { reply, .. }, CommandResult::Members(members)) => {
            reply.send(members);
        }
        (Command::Ack { reply, .. } | Command::Age { reply, .. }, CommandResult::Done) => {
            reply.send(());
        }
        // `apply` gives each command a result of its own kind; dropping the reply would tell the
        // caller that its command wasn't carried out.
        _ => {}
    }
}

impl Command {
    fn envelope_bytes(&self) -> usize {
        match self {
            Self::Append { send, .. } => send.envelope.0.len(),
            _ => 0,
        }
    }

    /// Whether nobody waits for the answer any more, so that it needn't be tried again.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Append { reply, .. } => reply.is_closed(),
            Self::Read { reply, .. } => reply.is_closed(),
            Self::Ack { reply, .. } | Self::Age { reply, .. } => reply.is_closed(),
            Self::Snapshot { reply, .. } => reply.is_closed(),
            Self::Members { reply, .. } => reply.is_closed(),
        }
    }

    fn give_up(self) {
        if let Self::Append { send, reply, .. } = self {
            let refused = Refused {
                counter: send.counter,
                code: Code::Overloaded,
                retry_after_ms: GIVEN_UP_RETRY_MS,
                last: 0,
            };
            reply.send(Err(refused));
        }
    }
}
