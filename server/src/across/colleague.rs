//! What other nodes ask and tell this one.

use std::{future::Future, pin::Pin, sync::Arc};

use tern_protocol::{code::Code, frame::Event};

use super::{looks::Looks, post::Abroad, presence::Desk};
use crate::{
    cluster::{
        NodeId, Views,
        links::{Handler, Note, Peers, Refusal, Reply, Request, Response},
    },
    conversation::{Back, Command, Conversations},
    directory::Directory,
    hub::Hub,
};

/// This node, as the others know it.
pub(super) struct Colleague {
    pub(super) views: Views,
    pub(super) peers: Peers,
    pub(super) conversations: Conversations,
    pub(super) directory: Directory,
    pub(super) hub: Hub,
    pub(super) abroad: Arc<Abroad>,
    pub(super) looks: Looks,
    pub(super) desk: Arc<Desk>,
}

impl Colleague {
    async fn begin(&self, request: Request, reply: Reply) {
        // Whoever asks believes that the conversation is ours. If it isn't, two work on it for a moment, which the
        // store bears; to send the request to and fro would help nobody.
        if !self.views.is_serving() {
            return reply.send(Err(Refusal::Suspended));
        }
        let command = match request {
            Request::Append { conversation, device, account, peer, send } => {
                let members = [account.min(peer), account.max(peer)];
                let accounts = match self.directory.accounts(members).await {
                    Ok(accounts) => accounts,
                    Err(error) => {
                        tracing::warn!(%error, "a request of another node waits for the store");
                        return reply.send(Err(Refusal::Overloaded));
                    }
                };
                let reply = back(reply, Response::Append);
                Command::Append { conversation, device, accounts, send, reply }
            }
            Request::Read { conversation, account, up_to } => {
                Command::Read { conversation, account, up_to, reply: back(reply, Response::Read) }
            }
            Request::Ack { conversation, device, ack } => {
                Command::Ack { conversation, device, ack, reply: back(reply, |()| Response::Done) }
            }
            Request::Snapshot { conversation, device } => {
                Command::Snapshot { conversation, device, reply: back(reply, Response::Snapshot) }
            }
            Request::Members { conversation } => {
                Command::Members { conversation, reply: back(reply, Response::Members) }
            }
            Request::Age { conversation, age } => {
                Command::Age { conversation, age, reply: back(reply, |()| Response::Done) }
            }
        };
        // A shard that has stopped drops it, which says to the other node that nothing is known of it.
        let _ = self.conversations.give(command).await;
    }
}

fn back<T: 'static>(reply: Reply, response: fn(T) -> Response) -> Back<T> {
    Back::Call(Box::new(move |answer| reply.send(Ok(response(answer)))))
}

impl Handler for Colleague {
    fn request(
        &self,
        _: NodeId,
        request: Request,
        reply: Reply,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.begin(request, reply))
    }

    fn note(&self, from: NodeId, note: Note) {
        match note {
            Note::News { device, epoch, conversation, news } => {
                if self.hub.news(device, conversation, news).is_err() {
                    self.peers.tell(from, Note::NotHere { device, epoch });
                }
            }
            Note::Event { device, epoch, event } => {
                if !self.hub.event(device, event) {
                    self.peers.tell(from, Note::NotHere { device, epoch });
                }
            }
            Note::NotHere { device, epoch } => self.abroad.missed(device, Some(epoch)),
            Note::Replaced { device, epoch } => {
                if let Some(older) = self.hub.connection(device).filter(|it| it.epoch < epoch) {
                    older.inbox.close(Code::Replaced);
                }
                // What came here for it before this, it was perhaps never told.
                self.peers.tell(from, Note::Look { device, epoch });
            }
            Note::Look { device, epoch } => match self.hub.connection(device) {
                Some(_) => self.looks.device(device),
                None => drop(self.peers.tell(from, Note::NotHere { device, epoch })),
            },
            Note::AccountChanged { account } => {
                self.directory.forget(account);
                for device in self.hub.devices_of(account) {
                    self.hub.event(device, Event::DevicesChanged);
                    // It may be the one that was removed.
                    self.looks.device(device);
                }
            }
            Note::Watch { account, is_on } => self.desk.watch(from, account, is_on),
            Note::Report(presence) => self.desk.report(from, presence),
            Note::Reset => self.desk.reset(from),
            Note::State(presence) => self.desk.state(presence),
        }
    }

    fn resync(&self, from: NodeId) {
        self.looks.all();
        // It may have said of some devices that they aren't there.
        self.abroad.lost(from);
        self.desk.resync(from);
    }

    fn linked(&self, to: NodeId) {
        self.desk.linked(to);
    }

    fn lost(&self, to: NodeId) {
        self.abroad.lost(to);
    }
}
