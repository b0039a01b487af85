//! The conversations' streams of the fake server.

use quinn::{Connection, RecvStream, SendStream};
use tern_protocol::{code::Code, downlink::Sender, frame::*, id::ConversationId, uplink::Verdict};

use super::{
    frames::{End, Frames, from_var_int, var_int, write, write_grease},
    session::Handler,
    world::{Entry, Known, Opened, World},
};

/// Which list of the world a stream stands in, and where.
#[derive(Clone, Copy)]
enum Place {
    Uplink(usize),
    Downlink(usize),
}

impl Handler {
    /// Serves the uplinks of a connection, from the hello on.
    pub(super) async fn uplinks(self, connection: Connection, known: Known) {
        while let Ok((send, recv)) = connection.accept_bi().await {
            tokio::spawn(self.clone().uplink(connection.clone(), known.clone(), send, recv));
        }
    }

    async fn uplink(
        self,
        connection: Connection,
        known: Known,
        mut send: SendStream,
        recv: RecvStream,
    ) -> Option<()> {
        let mut frames = Frames::new(recv);
        let first = frames.next().await?;
        self.note(&first);
        let Frame::OpenUplink(open) = first else { panic!("no openUplink") };
        let peer = open.peer.unwrap();
        if !self.world().devices.iter().any(|known| known.account == peer) {
            send.reset(var_int(Code::UnknownConversation)).ok()?;
            frames.stop(Code::UnknownConversation);
            return None;
        }
        let place = self.opened(Place::Uplink);
        self.world().members.insert(open.conversation, [known.account, peer]);
        while let Some(frame) = frames.next().await {
            self.note(&frame);
            let answer = match frame {
                Frame::Send(message) => {
                    let answer = self.send(&known, open.conversation, &message);
                    if matches!(answer, Frame::Accepted(_)) && self.world().swallow_answers {
                        connection.close(var_int(Code::Internal), b"");
                        return None;
                    }
                    if self.world().hold_answers {
                        continue;
                    }
                    answer
                }
                Frame::ReadMark(mark) => {
                    self.change(|world| {
                        world.raise(open.conversation, known.account, 0, mark.up_to)
                    });
                    Frame::Marked(Marked { up_to: mark.up_to })
                }
                Frame::Typing(_) => continue,
                other => panic!("{other:?} on an uplink"),
            };
            write(&mut send, &answer).await?;
            write_grease(&mut send).await?;
        }
        self.ended(place, &frames, &mut send).await;
        send.finish().ok()
    }

    fn send(&self, known: &Known, conversation: ConversationId, send: &Send) -> Frame {
        self.change(|world| {
            let answers = world.answers.entry((known.device, conversation)).or_default();
            let refuse = |code, retry_after_ms, last| {
                Frame::Refused(Refused { counter: send.counter, code, retry_after_ms, last })
            };
            match answers.judge(send, 1_000) {
                Verdict::Append => {
                    let planned = world.refuse.iter().position(|(n, ..)| *n == send.counter);
                    if let Some(index) = planned {
                        let (_, code, retry_after_ms) = world.refuse.remove(index);
                        return refuse(code, retry_after_ms, answers.last());
                    }
                    let log = world.logs.entry(conversation).or_default();
                    log.push(Entry {
                        account: known.account,
                        device: known.device,
                        message_id: send.message_id,
                        text: String::from_utf8(send.envelope.0.to_vec()).unwrap(),
                    });
                    Frame::Accepted(answers.record(send, log.len() as u64, 7))
                }
                Verdict::Repeat(accepted) => Frame::Accepted(accepted),
                Verdict::Refuse(code) => refuse(code, 0, answers.last()),
            }
        })
    }

    /// Opens downlinks for what the device hasn't acknowledged.
    pub(super) async fn downlinks(self, connection: Connection, known: Known) -> Option<()> {
        let mut changed = self.changed.subscribe();
        let mut open = Vec::new();
        loop {
            changed.borrow_and_update();
            let due: Vec<_> = {
                let world = self.world();
                let is_member = |id: &ConversationId| world.members[id].contains(&known.account);
                world.logs.keys().filter(|id| is_member(id)).copied().collect()
            };
            for conversation in due {
                if !open.contains(&conversation) {
                    open.push(conversation);
                    let this = self.clone();
                    tokio::spawn(this.downlink(connection.clone(), known.clone(), conversation));
                }
            }
            tokio::select! {
                changed = changed.changed() => changed.ok()?,
                _ = connection.closed() => return None,
            }
        }
    }

    async fn downlink(
        self,
        connection: Connection,
        known: Known,
        conversation: ConversationId,
    ) -> Option<()> {
        let (mut send, recv) = connection.open_bi().await.ok()?;
        let mut frames = Frames::new(recv);
        let (open, cursor) = {
            let world = self.world();
            let cursor = world.cursors.get(&(known.device, conversation)).copied();
            let cursor = cursor.unwrap_or_default();
            let [a, b] = world.members[&conversation];
            let peer = if a == known.account { b } else { a };
            let peer = world.devices.iter().find(|known| known.account == peer)?;
            let open = OpenDownlink {
                conversation,
                start: cursor.seq,
                head: world.logs[&conversation].len() as u64,
                peer: Account { account: peer.account, name: peer.name.clone() },
                revision: cursor.revision,
            };
            (open, cursor)
        };
        write(&mut send, &Frame::OpenDownlink(open)).await?;
        write_grease(&mut send).await?;
        let place = self.opened(Place::Downlink);
        let mut sender = Sender::new(cursor);
        let mut changed = self.changed.subscribe();
        let mut is_finished = false;
        loop {
            changed.borrow_and_update();
            let due = match is_finished {
                true => Vec::new(),
                false => self.due(&mut sender, &known, conversation),
            };
            let mut is_writable = true;
            for frame in due {
                is_writable &= write(&mut send, &frame).await.is_some();
            }
            if self.world().end_downlinks && !is_finished {
                is_finished = true;
                send.finish().ok()?;
            }
            tokio::select! {
                changed = changed.changed(), if is_writable => changed.ok()?,
                frame = frames.next() => match frame {
                    Some(Frame::Ack(ack)) => {
                        sender.ack(&ack).unwrap();
                        self.change(|world| {
                            if let Some(look) = &mut world.at_ack {
                                look(known.device, &ack);
                            }
                            world.cursors.insert((known.device, conversation), ack);
                            world.raise(conversation, known.account, ack.seq, 0);
                        });
                    }
                    None => {
                        self.ended(place, &frames, &mut send).await;
                        return None;
                    }
                    other => panic!("{other:?} on a downlink"),
                },
            }
        }
    }

    fn due(&self, sender: &mut Sender, known: &Known, conversation: ConversationId) -> Vec<Frame> {
        let world = self.world();
        let mut frames = Vec::new();
        for (seq, entry) in (1..).zip(&world.logs[&conversation]) {
            if seq <= sender.sent_seq() || sender.room() == 0 {
                continue;
            }
            sender.sent_up_to(seq);
            frames.push(if entry.device == known.device {
                Frame::Skip(Skip { up_to: seq, reason: SkipReason::Own })
            } else {
                Frame::Deliver(Deliver {
                    seq,
                    account: entry.account,
                    device: entry.device,
                    message_id: entry.message_id,
                    time_ms: 7,
                    envelope: Envelope(entry.text.clone().into_bytes().into()),
                })
            });
        }
        for receipt in world.receipts.get(&conversation).into_iter().flatten() {
            if receipt.revision > sender.sent_revision() {
                sender.sent_receipts_up_to(receipt.revision);
                frames.push(Frame::Receipt(receipt.clone()));
            }
        }
        frames
    }

    /// Notes a stream.
    fn opened(&self, place: fn(usize) -> Place) -> Place {
        self.change(|world| {
            let list = list(world, place(0));
            list.push(Opened::default());
            place(list.len() - 1)
        })
    }

    /// Notes how a stream has ended.
    async fn ended(&self, place: Place, frames: &Frames, send: &mut SendStream) {
        // A client that breaks a stream off stops the other direction as well.
        let stopped = match frames.end {
            Some(End::Reset(_)) => send.stopped().await.ok().flatten().map(from_var_int),
            _ => None,
        };
        self.change(|world| {
            let (Place::Uplink(at) | Place::Downlink(at)) = place;
            let opened = &mut list(world, place)[at];
            opened.ended = frames.end;
            opened.stopped = stopped;
        });
    }
}

fn list(world: &mut World, place: Place) -> &mut Vec<Opened> {
    match place {
        Place::Uplink(_) => &mut world.uplinks,
        Place::Downlink(_) => &mut world.downlinks,
    }
}
