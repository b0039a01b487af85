//! The owners of conversations: what concerns a conversation is done by its owner, wherever that is.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tern_protocol::{
    code::Code,
    frame::{Accepted, Ack, Refused, Send},
    id::{AccountId, ConversationId, DeviceId},
};
use tokio::sync::oneshot;

use crate::{
    cluster::{
        NodeId, Views,
        links::{Answer, AskError, Peers, Request, Response},
    },
    conversation::{Age, Conversations, Snapshot, Unavailable},
    directory::AccountInfo,
};

/// How often an owner is asked, before this node does itself what is to be done.
const ATTEMPTS: u32 = 3;
/// Pause before it is asked again, times the number of attempts.
const RETRY: Duration = Duration::from_millis(100);

/// Where a conversation is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On this node.
    Here,
    /// On another.
    There(NodeId),
}

/// An answer to come.
pub struct Pending<T>(Way<T>);

enum Way<T> {
    Here(oneshot::Receiver<T>),
    There(Answer, fn(Response) -> Option<T>),
}

impl<T> Future for Pending<T> {
    /// Without an answer it isn't known what became of what was asked.
    type Output = Result<T, Unavailable>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Way::Here(receiver) => Pin::new(receiver).poll(context).map_err(|_| Unavailable),
            Way::There(answer, read) => {
                let read = *read;
                Pin::new(answer)
                    .poll(context)
                    .map(|answer| answer.ok().and_then(read).ok_or(Unavailable))
            }
        }
    }
}

/// Why something can't be begun where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BeginError {
    /// The owner can't be reached, and nothing has happened.
    Unreachable,
    /// This node stops, or may not serve now.
    Stopping,
}

/// The owners of all conversations, as one node reaches them. Cheap to clone.
#[derive(Clone)]
pub struct Owners {
    here: Conversations,
    others: Option<(Views, Peers)>,
}

impl Owners {
    /// Of a node that is alone and owns everything.
    pub fn of_one(here: Conversations) -> Self {
        Self { here, others: None }
    }

    /// Of a node among others.
    pub fn of_many(here: Conversations, views: Views, peers: Peers) -> Self {
        Self { here, others: Some((views, peers)) }
    }

    /// Where a conversation belongs now.
    pub fn place(&self, conversation: ConversationId) -> Place {
        let Some((views, _)) = &self.others else { return Place::Here };
        let view = views.now();
        match view.owner(conversation) {
            Some(owner) if owner != view.me() => Place::There(owner),
            _ => Place::Here,
        }
    }

    /// Begins an append at `place`. Appends begun one after the other at one place are applied in that order; those at two
    /// places aren't, so the answers of the first are to be awaited before the second is begun.
    pub async fn append(
        &self,
        place: Place,
        conversation: ConversationId,
        device: DeviceId,
        accounts: [Arc<AccountInfo>; 2],
        send: Send,
    ) -> Result<Pending<Result<Accepted, Refused>>, BeginError> {
        self.check_serving()?;
        match (place, &self.others) {
            (Place::There(node), Some((_, peers))) => {
                let is_own = |info: &Arc<AccountInfo>| info.device(device).is_some();
                let [a, b] = &accounts;
                let (own, peer) = if is_own(a) { (a, b) } else { (b, a) };
                let (account, peer) = (own.account, peer.account);
                let request = Request::Append { conversation, device, account, peer, send };
                let read = |response| match response {
                    Response::Append(result) => Some(result),
                    _ => None,
                };
                begin(peers, node, request, read).await
            }
            _ => {
                let answer = self.here.append(conversation, device, accounts, send).await;
                Ok(Pending(Way::Here(answer.map_err(|Unavailable| BeginError::Stopping)?)))
            }
        }
    }

    /// Begins to move a read mark. It is a state, so it has no order with sends.
    pub async fn read(
        &self,
        conversation: ConversationId,
        account: AccountId,
        up_to: u64,
    ) -> Result<Pending<Result<u64, Code>>, Unavailable> {
        if self.place(conversation) == Place::Here {
            self.check_serving().map_err(|_| Unavailable)?;
            let answer = self.here.read(conversation, account, up_to).await?;
            return Ok(Pending(Way::Here(answer)));
        }
        let owners = self.clone();
        let (reply, answer) = oneshot::channel();
        tokio::spawn(async move {
            // Without an answer it is dropped, and who has gone needs none.
            if let Ok(result) = owners.ask_to_read(conversation, account, up_to).await {
                let _ = reply.send(result);
            }
        });
        Ok(Pending(Way::Here(answer)))
    }

    async fn ask_to_read(
        &self,
        conversation: ConversationId,
        account: AccountId,
        up_to: u64,
    ) -> Result<Result<u64, Code>, Unavailable> {
        match self.ask(Request::Read { conversation, account, up_to }).await? {
            Some(Response::Read(result)) => Ok(result),
            Some(_) => Err(Unavailable),
            None => {
                let answer = self.here.read(conversation, account, up_to).await?;
                answer.await.map_err(|_| Unavailable)
            }
        }
    }

    /// Takes a device's ack, already held to what it was sent. Returns once it has taken effect.
    pub async fn ack(
        &self,
        conversation: ConversationId,
        device: DeviceId,
        ack: Ack,
    ) -> Result<(), Unavailable> {
        match self.ask(Request::Ack { conversation, device, ack }).await? {
            Some(Response::Done) => Ok(()),
            Some(_) => Err(Unavailable),
            None => self.here.ack(conversation, device, ack).await,
        }
    }

    /// What a downlink of `device` starts from; `None` if the device has no part in it.
    pub async fn snapshot(
        &self,
        conversation: ConversationId,
        device: DeviceId,
    ) -> Result<Option<Snapshot>, Unavailable> {
        match self.ask(Request::Snapshot { conversation, device }).await? {
            Some(Response::Snapshot(snapshot)) => Ok(snapshot),
            Some(_) => Err(Unavailable),
            None => self.here.snapshot(conversation, device).await,
        }
    }

    /// The members of a conversation; `None` if there is no such conversation.
    pub async fn members(
        &self,
        conversation: ConversationId,
    ) -> Result<Option<[AccountId; 2]>, Unavailable> {
        match self.ask(Request::Members { conversation }).await? {
            Some(Response::Members(members)) => Ok(members),
            // "There is none" is one answer to both questions.
            Some(Response::Snapshot(None)) => Ok(None),
            Some(_) => Err(Unavailable),
            None => self.here.members(conversation).await,
        }
    }

    /// Deletes entries for their age, on this node, which is to own the conversation.
    pub async fn age(&self, conversation: ConversationId, age: Age) -> Result<(), Unavailable> {
        self.here.age(conversation, age).await
    }

    /// Asks the owner something that may be asked twice; `None` if it is for this node to do, by right or for
    /// want of an owner that can be reached.
    async fn ask(&self, request: Request) -> Result<Option<Response>, Unavailable> {
        let Some((_, peers)) = &self.others else { return Ok(None) };
        for attempt in 1..=ATTEMPTS {
            self.check_serving().map_err(|_| Unavailable)?;
            let Place::There(node) = self.place(request.conversation()) else { return Ok(None) };
            match peers.ask(node, request.clone()).await {
                Ok(response) => return Ok(Some(response)),
                Err(AskError::NotSent | AskError::TooLarge) => return Ok(None),
                Err(error @ (AskError::Unknown | AskError::Refused(_))) => {
                    tracing::debug!(%error, %node, attempt, "an owner is asked again");
                    tokio::time::sleep(RETRY * attempt).await;
                }
            }
        }
        Ok(None)
    }

    fn check_serving(&self) -> Result<(), BeginError> {
        match &self.others {
            Some((views, _)) if !views.is_serving() => Err(BeginError::Stopping),
            _ => Ok(()),
        }
    }
}

async fn begin<T>(
    peers: &Peers,
    node: NodeId,
    request: Request,
    read: fn(Response) -> Option<T>,
) -> Result<Pending<T>, BeginError> {
    match peers.begin(node, request).await {
        Ok(answer) => Ok(Pending(Way::There(answer, read))),
        Err(_) => Err(BeginError::Unreachable),
    }
}
