//! One conversation's downlink: messages and receipts come down, acks go up.
//!
//! What may come is decided by `tern_protocol::downlink::Receiver`. What came together is stored in one
//! step, and only then acknowledged.

use std::sync::Arc;

use tern_protocol::{
    code::Code,
    downlink::{Delivery, Receiver},
    frame::{Ack, Frame, OpenDownlink, Receipt},
    id::{AccountId, ConversationId},
};

use super::io::{FrameReader, FrameWriter, IoError, RecvStream, SendStream};
use crate::{
    core::Core,
    error::ConnectError,
    event::ClientEvent,
    store::{
        StoreError,
        inbox::{self, Arrival},
    },
};

/// Runs a downlink until the server ends it. An error is one of the connection.
pub(crate) async fn run(
    core: Arc<Core>,
    own: AccountId,
    send: SendStream,
    recv: RecvStream,
) -> Result<(), ConnectError> {
    let (reader, writer) =
        (FrameReader::new(recv, core.signs.clone()), FrameWriter::new(send, core.signs.clone()));
    let downlink = Downlink { core, own, reader, writer };
    match downlink.run().await {
        Ok(()) => Ok(()),
        Err(Failed::Stream(IoError::Reset(_) | IoError::EarlyDataRejected)) => Ok(()),
        Err(Failed::Stream(error)) => Err(error.into()),
        Err(Failed::Connection(error)) => Err(error),
    }
}

struct Downlink {
    core: Arc<Core>,
    own: AccountId,
    reader: FrameReader,
    writer: FrameWriter,
}

enum Failed {
    Stream(IoError),
    Connection(ConnectError),
}

impl From<IoError> for Failed {
    fn from(error: IoError) -> Self {
        Self::Stream(error)
    }
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        Self::Connection(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Connection(error.into())
    }
}

impl Downlink {
    async fn run(mut self) -> Result<(), Failed> {
        let open = match self.reader.next().await? {
            Some(Frame::OpenDownlink(open)) => open,
            Some(_) => return Err(unexpected(Code::UnexpectedFrame).into()),
            None => return Ok(()),
        };
        let conversation = open.conversation;
        let held = self.core.store.quickly(move |db| inbox::cursor(db, conversation)).await?;
        let mut receiver = match Receiver::open(&open, held.map(|held| held.position)) {
            Ok(receiver) => receiver,
            Err(code) => {
                self.reader.stop(code);
                self.writer.reset(code);
                self.core.notify(ClientEvent::Gap { conversation });
                return Ok(());
            }
        };
        // Goes into the first step of the store, with what came along.
        let mut opening = Some(open);
        while self.reader.fill().await? {
            let arrivals = self.take(&mut receiver)?;
            self.store(&mut receiver, &mut opening, conversation, arrivals).await?;
            if let Some(ack) = receiver.take_ack() {
                self.writer.push(&Frame::Ack(ack));
                self.writer.flush().await?;
            }
        }
        self.writer.finish();
        Ok(())
    }

    /// Judges what came together.
    fn take(&mut self, receiver: &mut Receiver) -> Result<Vec<Arrival>, Failed> {
        let mut arrivals = Vec::new();
        while let Some(frame) = self.reader.ready() {
            let judged = match frame {
                Frame::Deliver(deliver) => receiver.deliver(&deliver).map(|delivery| {
                    if delivery == Delivery::New {
                        arrivals.push(Arrival::Message(deliver));
                    }
                }),
                Frame::Skip(skip) => receiver.skip(&skip).map(|()| {
                    arrivals.push(Arrival::Skipped(skip.up_to));
                }),
                Frame::Receipt(receipt) => receiver.receipt(&receipt).map(|()| {
                    arrivals.push(Arrival::Receipt(receipt));
                }),
                Frame::Extension(_) => Ok(()),
                _ => Err(Code::UnexpectedFrame),
            };
            judged.map_err(unexpected)?;
        }
        Ok(arrivals)
    }

    async fn store(
        &mut self,
        receiver: &mut Receiver,
        opening: &mut Option<OpenDownlink>,
        conversation: ConversationId,
        arrivals: Vec<Arrival>,
    ) -> Result<(), Failed> {
        let (opening, own) = (opening.take(), self.own);
        let has_messages = arrivals.iter().any(|it| matches!(it, Arrival::Message(_)));
        let (cursor, receipts) = self
            .core
            .store
            .durably(move |db| {
                if let Some(opening) = &opening {
                    inbox::open(db, opening)?;
                }
                let mut receipts = Vec::new();
                let cursor = inbox::store(db, conversation, own, &arrivals, &mut receipts)?;
                Ok((cursor, receipts))
            })
            .await?;
        receiver.stored(Ack { seq: cursor.position, revision: cursor.revision });
        if has_messages {
            self.core.inbox_grew();
        }
        if !receipts.is_empty() {
            self.core.ticks_moved();
        }
        for Receipt { account, delivered, read, .. } in receipts {
            self.core.notify(ClientEvent::Receipt { conversation, account, delivered, read });
        }
        Ok(())
    }
}

fn unexpected(code: Code) -> ConnectError {
    ConnectError::Protocol(code, "an entry out of order on a downlink".into())
}
