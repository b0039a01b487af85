//! Conversations: the append path, acks, receipts, deletion.
//!
//! ```text
//! uplink --Append--> shard: judge, number, one transaction per batch --commit--> accepted, news
//! downlink --Ack---> shard                                            --commit--> receipts
//! ```
//!
//! Each conversation belongs to one [`shard`], which is its single writer: it keeps the hot ones in
//! memory as [`state::Conversation`], applies what waits in its queue to them and commits all of it as
//! one transaction. Answers and news leave after the commit, so whatever anybody was told is durable.

pub mod shard;
pub mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tern_protocol::{
    code::Code,
    frame::{Accepted, Ack, Refused, Send},
    id::{AccountId, ConversationId, DeviceId},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock::Clock,
    directory::{AccountInfo, Directory},
    metrics::Metrics,
    store::Store,
};

pub use self::{
    shard::Settings,
    state::{Age, Appended, News, Rules, Snapshot},
};

/// Where news of conversations goes: to the devices that are connected.
pub trait Audience: std::marker::Send + Sync + 'static {
    /// Takes news for a device. Must not block; a device that isn't here is no error, since its
    /// mailbox has the news as well.
    fn tell(&self, device: DeviceId, conversation: ConversationId, news: News);
}

/// The way back to whoever gave a command. Dropped without an answer, it says that the command wasn't carried out,
/// or may not have been.
pub(crate) enum Back<T> {
    /// To a task of this process.
    Task(oneshot::Sender<T>),
    /// To somewhere else, by a call that doesn't block.
    Call(Box<dyn FnOnce(T) + std::marker::Send + Sync>),
}

impl<T> Back<T> {
    /// Answers. Who has gone meanwhile needs no answer.
    fn send(self, answer: T) {
        match self {
            Self::Task(sender) => drop(sender.send(answer)),
            Self::Call(call) => call(answer),
        }
    }

    /// Whether nobody waits for the answer any more.
    fn is_closed(&self) -> bool {
        match self {
            Self::Task(sender) => sender.is_closed(),
            Self::Call(_) => false,
        }
    }
}

/// What a shard is asked to do.
pub(crate) enum Command {
    Append {
        conversation: ConversationId,
        device: DeviceId,
        accounts: [Arc<AccountInfo>; 2],
        send: Send,
        reply: Back<Result<Accepted, Refused>>,
    },
    Read {
        conversation: ConversationId,
        account: AccountId,
        up_to: u64,
        reply: Back<Result<u64, Code>>,
    },
    Ack {
        conversation: ConversationId,
        device: DeviceId,
        ack: Ack,
        reply: Back<()>,
    },
    Snapshot {
        conversation: ConversationId,
        device: DeviceId,
        reply: Back<Option<Snapshot>>,
    },
    Members {
        conversation: ConversationId,
        reply: Back<Option<[AccountId; 2]>>,
    },
    Age {
        conversation: ConversationId,
        age: Age,
        reply: Back<()>,
    },
}

impl Command {
    fn conversation(&self) -> ConversationId {
        match self {
            Self::Append { conversation, .. }
            | Self::Read { conversation, .. }
            | Self::Ack { conversation, .. }
            | Self::Snapshot { conversation, .. }
            | Self::Members { conversation, .. }
            | Self::Age { conversation, .. } => *conversation,
        }
    }
}

/// The shard has stopped or gave the command up; the caller tries again later or closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

/// The face of all shards. Cheap to clone.
///
/// Every call waits for room in its shard's bounded queue first: a server with too much to do reads
/// more slowly from its clients.
#[derive(Clone)]
pub struct Conversations {
    shards: Arc<[mpsc::Sender<Command>]>,
}

impl Conversations {
    /// Starts the shards. They run until every clone of the face is dropped and what they had
    /// accepted is committed; the returned handles end then.
    pub fn start(
        store: &Arc<dyn Store>,
        directory: &Directory,
        audience: &Arc<dyn Audience>,
        metrics: &Arc<Metrics>,
        clock: Clock,
        settings: &Settings,
    ) -> (Self, Vec<tokio::task::JoinHandle<()>>) {
        let mut shards = Vec::new();
        let mut tasks = Vec::new();
        for _ in 0..settings.shards.max(1) {
            let (sender, receiver) = mpsc::channel(settings.queue_commands.max(1));
            let shard = shard::Shard::new(
                store.clone(),
                directory.clone(),
                audience.clone(),
                metrics.clone(),
                clock,
                settings.clone(),
            );
            tasks.push(tokio::spawn(shard.run(receiver)));
            shards.push(sender);
        }
        (Self { shards: shards.into() }, tasks)
    }

    /// Begins an append; the answer comes by the receiver once it is durable. Appends begun one after
    /// the other are applied in that order.
    pub async fn append(
        &self,
        conversation: ConversationId,
        device: DeviceId,
        accounts: [Arc<AccountInfo>; 2],
        send: Send,
    ) -> Result<oneshot::Receiver<Result<Accepted, Refused>>, Unavailable> {
        let (reply, answer) = task();
        self.give(Command::Append { conversation, device, accounts, send, reply }).await?;
        Ok(answer)
    }

    /// Begins to move a read mark; the answer comes by the receiver once it is durable.
    pub async fn read(
        &self,
        conversation: ConversationId,
        account: AccountId,
        up_to: u64,
    ) -> Result<oneshot::Receiver<Result<u64, Code>>, Unavailable> {
        let (reply, answer) = task();
        self.give(Command::Read { conversation, account, up_to, reply }).await?;
        Ok(answer)
    }

    /// Takes a device's ack, already held to what it was sent. Returns once it has taken effect.
    pub async fn ack(
        &self,
        conversation: ConversationId,
        device: DeviceId,
        ack: Ack,
    ) -> Result<(), Unavailable> {
        let (reply, answer) = task();
        self.give(Command::Ack { conversation, device, ack, reply }).await?;
        answer.await.map_err(|_| Unavailable)
    }

    /// What a downlink of `device` starts from; `None` if the device has no part in it.
    pub async fn snapshot(
        &self,
        conversation: ConversationId,
        device: DeviceId,
    ) -> Result<Option<Snapshot>, Unavailable> {
        let (reply, answer) = task();
        self.give(Command::Snapshot { conversation, device, reply }).await?;
        answer.await.map_err(|_| Unavailable)
    }

    /// The members of a conversation; `None` if there is no such conversation.
    pub async fn members(
        &self,
        conversation: ConversationId,
    ) -> Result<Option<[AccountId; 2]>, Unavailable> {
        let (reply, answer) = task();
        self.give(Command::Members { conversation, reply }).await?;
        answer.await.map_err(|_| Unavailable)
    }

    /// Deletes entries for their age.
    pub async fn age(&self, conversation: ConversationId, age: Age) -> Result<(), Unavailable> {
        let (reply, answer) = task();
        self.give(Command::Age { conversation, age, reply }).await?;
        answer.await.map_err(|_| Unavailable)
    }

    /// Gives a command to the shard of its conversation.
    pub(crate) async fn give(&self, command: Command) -> Result<(), Unavailable> {
        let id = command.conversation();
        let [a, b, c, d, ..] = *id.as_bytes();
        // Direct conversations have ids out of a hash, so any bytes of them spread evenly.
        let shard = u32::from_le_bytes([a, b, c, d]) as usize % self.shards.len();
        self.shards[shard].send(command).await.map_err(|_| Unavailable)
    }
}

/// A way back to this task, and its end here.
pub(crate) fn task<T>() -> (Back<T>, oneshot::Receiver<T>) {
    let (sender, receiver) = oneshot::channel();
    (Back::Task(sender), receiver)
}
