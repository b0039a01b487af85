//! What the fake server knows, and what it has seen and is told to do.

use std::collections::BTreeMap;

use quinn::Connection;
use tern_protocol::{
    code::Code,
    frame::{Ack, Frame, Hello, Receipt, Span},
    id::{AccountId, ConversationId, DeviceId},
    uplink::Answers,
};
use tokio::sync::watch;

use super::frames::End;

/// One device of the fake world.
#[derive(Debug, Clone)]
pub struct Known {
    pub name: String,
    pub account: AccountId,
    pub device: DeviceId,
    pub key: [u8; 32],
}

/// An entry of a conversation.
#[derive(Debug, Clone)]
pub struct Entry {
    pub account: AccountId,
    pub device: DeviceId,
    pub message_id: u64,
    pub text: String,
}

/// A connection as the server saw it.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The node that it came to.
    pub node: usize,
    /// Whether its session stream came in 0-RTT data.
    pub is_early: bool,
    /// All that came on its session stream and its uplinks, in the order in which it was read.
    pub frames: Vec<Frame>,
}

impl Visit {
    pub fn hellos(&self) -> impl Iterator<Item = &Hello> {
        self.frames.iter().filter_map(|frame| match frame {
            Frame::Hello(hello) => Some(hello),
            _ => None,
        })
    }
}

/// A stream of a conversation that was opened.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    /// How the client ended its direction, once it has.
    pub ended: Option<End>,
    /// The code with which the client stopped the server's direction, if it did.
    pub stopped: Option<Code>,
}

/// A signed-in connection.
pub struct Signed {
    pub device: DeviceId,
    pub connection: Connection,
    pub tell: watch::Sender<Option<Frame>>,
    /// Whether the last of it was written.
    pub is_told: bool,
}

/// Is told of every ack, and by whose device.
pub type Onlooker = Box<dyn FnMut(DeviceId, &Ack) + Send>;

/// What the server knows; survives connections and restarts.
#[derive(Default)]
pub struct World {
    pub devices: Vec<Known>,
    pub logs: BTreeMap<ConversationId, Vec<Entry>>,
    pub members: BTreeMap<ConversationId, [AccountId; 2]>,
    pub answers: BTreeMap<(DeviceId, ConversationId), Answers>,
    pub cursors: BTreeMap<(DeviceId, ConversationId), Ack>,
    pub receipts: BTreeMap<ConversationId, Vec<Receipt>>,
    pub epoch: u64,
    pub connections: Vec<Signed>,

    /// Sends that are refused, with the code and `retry_after_ms`.
    pub refuse: Vec<(u64, Code, u64)>,
    /// Hellos that are rejected whatever they say, with the code and `retry_after_ms`.
    pub reject: Vec<(Code, u64)>,
    /// Tickets aren't taken.
    pub no_tickets: bool,
    /// Accepted sends aren't answered; the connection is closed instead.
    pub swallow_answers: bool,
    /// Sends are taken, and not answered on the stream on which they came.
    pub hold_answers: bool,
    /// Downlinks are ended when everything was sent.
    pub end_downlinks: bool,
    /// Revisions above the first that the greeting offers.
    pub later_revisions: u16,
    /// The greeting says nonsense: a server that speaks no revision.
    pub speaks_nothing: bool,
    /// What the welcome says of silence, if it isn't the default.
    pub idle_for_ms: Option<u32>,
    /// Requests for the address aren't known.
    pub hides_addresses: bool,
    /// Looks on whenever an ack comes.
    pub at_ack: Option<Onlooker>,

    pub visits: Vec<Visit>,
    /// The codes with which clients closed connections.
    pub closed: Vec<Code>,
    pub uplinks: Vec<Opened>,
    pub downlinks: Vec<Opened>,
}

impl World {
    /// For every hello whether it was by ticket, and whether in early data.
    pub fn hellos(&self) -> Vec<(bool, bool)> {
        let of = |visit: &Visit| {
            let is_early = visit.is_early;
            visit.hellos().map(|hello| (ticket(hello).is_some(), is_early)).collect::<Vec<_>>()
        };
        self.visits.iter().flat_map(of).collect()
    }

    /// The tickets of all hellos, in order; `None` for a signature.
    pub fn tickets(&self) -> Vec<Option<Vec<u8>>> {
        self.visits.iter().flat_map(Visit::hellos).map(ticket).collect()
    }

    /// What the devices have acknowledged is all there is in the conversation, receipts included.
    pub fn is_acknowledged(&self, conversation: ConversationId, by: &[DeviceId]) -> bool {
        let seq = self.logs.get(&conversation).map_or(0, Vec::len) as u64;
        let receipts = self.receipts.get(&conversation);
        let revision = receipts.and_then(|all| all.last()).map_or(0, |last| last.revision);
        let all = Some(Ack { seq, revision });
        by.iter().all(|&device| self.cursors.get(&(device, conversation)).copied() == all)
    }

    /// Raises a member's receipt; the list stays in the order of revisions.
    pub fn raise(&mut self, id: ConversationId, account: AccountId, delivered: u64, read: u64) {
        self.change_receipt(id, account, |receipt| {
            let before = (receipt.delivered, receipt.read);
            receipt.delivered = receipt.delivered.max(delivered);
            receipt.read = receipt.read.max(read);
            before != (receipt.delivered, receipt.read)
        });
    }

    /// Says that a member's devices missed entries, and which are still told.
    pub fn expire(&mut self, id: ConversationId, account: AccountId, spans: &[(u64, u64)]) {
        self.change_receipt(id, account, |receipt| {
            receipt.expired = spans.iter().map(|&(first, last)| Span { first, last }).collect();
            true
        });
    }

    fn change_receipt(
        &mut self,
        id: ConversationId,
        account: AccountId,
        change: impl FnOnce(&mut Receipt) -> bool,
    ) {
        let receipts = self.receipts.entry(id).or_default();
        let revision = receipts.last().map_or(0, |last| last.revision) + 1;
        let old = receipts.iter().position(|receipt| receipt.account == account);
        let mut receipt = match old {
            Some(index) => receipts[index].clone(),
            None => Receipt { revision, account, delivered: 0, read: 0, expired: Vec::new() },
        };
        if !change(&mut receipt) && old.is_some() {
            return;
        }
        receipt.revision = revision;
        if let Some(index) = old {
            receipts.remove(index);
        }
        receipts.push(receipt);
    }
}

fn ticket(hello: &Hello) -> Option<Vec<u8>> {
    match &hello.credential {
        tern_protocol::frame::Credential::Ticket(ticket) => Some(ticket.expose().to_vec()),
        _ => None,
    }
}
