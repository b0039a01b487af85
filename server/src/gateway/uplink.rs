//! One uplink: reads sends, read marks and typing, answers in order.

use std::{collections::VecDeque, future::Future, sync::Arc, time::Duration};

use tern_protocol::{
    code::Code,
    frame::{Accepted, Event, Frame, Marked, OpenUplink, Refused},
    id::{AccountId, ConversationId},
    limits,
};
use tokio::time::timeout;

use super::{
    session::Session,
    streams::{FrameWriter, Frames, Stop},
};
use crate::{
    across::{BeginError, Pending, Place},
    directory::AccountInfo,
};

/// What the uplink's caller does about its end.
pub(super) type End = Result<(), Code>;

/// Answers that are due, in the order of what they answer.
enum Due {
    Send(u64, Pending<Result<Accepted, Refused>>),
    Read(Pending<Result<u64, Code>>),
    /// The owner couldn't be reached while others of this uplink's sends were with it.
    GivenUp(u64),
}

/// When a send that the engine couldn't take may be repeated, in milliseconds.
const RETRY_MS: u64 = 500;

/// Serves one uplink until it ends. The error closes the connection.
pub(super) async fn serve(
    session: Arc<Session>,
    mut frames: Frames,
    mut answers: FrameWriter,
) -> End {
    let opened = match timeout(Duration::from_millis(limits::OPEN_TIMEOUT_MS), frames.next()).await
    {
        Ok(Ok(Some(Frame::OpenUplink(open)))) => open,
        Ok(Ok(Some(_))) => return Err(Code::UnexpectedFrame),
        Ok(Ok(None)) | Ok(Err(Stop::Reset | Stop::Lost)) => return Ok(()),
        Ok(Err(Stop::Decode(error))) => return Err(session.refused_frame(&error)),
        Err(_) => return session.reset(&mut frames, &mut answers, Code::StreamIdle),
    };
    frames.set_limit(limits::FRAME_BYTES);
    let conversation = opened.conversation;
    let members = match members(&session, &opened).await {
        Ok(members) => members,
        Err(code) => return session.reset(&mut frames, &mut answers, code),
    };
    if !session.claim_uplink(conversation).await {
        return session.reset(&mut frames, &mut answers, Code::DuplicateStream);
    }
    session.shared.metrics.uplinks.inc();
    let place = session.shared.owners.place(conversation);
    let due = VecDeque::new();
    let mut uplink = Uplink { session: &session, conversation, members, place, due };
    let leave = uplink.run(&mut frames, &mut answers).await;
    session.shared.metrics.uplinks.dec();
    // Before the client can see the end, since then it may open another.
    session.release_uplink(conversation);
    match leave? {
        Leave::Finish => answers.finish(),
        Leave::Idle => return session.reset(&mut frames, &mut answers, Code::StreamIdle),
        Leave::Gone => {}
    }
    Ok(())
}

/// How an uplink is to be left.
enum Leave {
    /// All is said.
    Finish,
    /// Nothing was said for a while.
    Idle,
    /// The client has ended it.
    Gone,
}

/// The members of the conversation, if the account may speak there, by [TERN-6.1-1].
async fn members(session: &Session, opened: &OpenUplink) -> Result<[AccountId; 2], Code> {
    let own = session.account;
    match opened.peer {
        Some(peer) => {
            if ConversationId::direct(own, peer) != Some(opened.conversation) {
                return Err(Code::UnknownConversation);
            }
            let known = session.shared.directory.account(peer).await;
            match known.map_err(|error| session.internal(&error))? {
                Some(_) => Ok([own.min(peer), own.max(peer)]),
                None => Err(Code::UnknownConversation),
            }
        }
        None => {
            let known = session.shared.owners.members(opened.conversation).await;
            match known.map_err(|_| Code::Internal)? {
                Some(members) if members.contains(&own) => Ok(members),
                _ => Err(Code::UnknownConversation),
            }
        }
    }
}

struct Uplink<'a> {
    session: &'a Session,
    conversation: ConversationId,
    members: [AccountId; 2],
    /// Where what is due was begun. Only at one place is it done in order.
    place: Place,
    due: VecDeque<Due>,
}

impl Uplink<'_> {
    async fn run(&mut self, frames: &mut Frames, answers: &mut FrameWriter) -> Result<Leave, Code> {
        let idle = Duration::from_millis(u64::from(self.session.limits.stream_idle_for_ms));
        let most = usize::from(self.session.limits.unanswered_sends);
        let mut ended = false;
        loop {
            if ended && self.due.is_empty() {
                return Ok(Leave::Finish);
            }
            let place = self.session.shared.owners.place(self.conversation);
            if self.due.is_empty() {
                self.place = place;
            }
            // Reading no further while too much is unanswered is what holds a flood back. When the owner has changed,
            // what the old one has is answered first.
            let may_read = !ended && self.due.len() < most && self.place == place;
            tokio::select! {
                biased;
                answer = next_due(&mut self.due), if !self.due.is_empty() => {
                    self.answer(answer?, answers)?;
                    // What else is ready leaves in the same write.
                    while let Some(answer) = ready(&mut self.due) {
                        self.answer(answer?, answers)?;
                    }
                    if answers.flush().await.is_err() {
                        return Ok(Leave::Gone);
                    }
                }
                frame = timeout(idle, frames.next()), if may_read => match frame {
                    Ok(Ok(Some(frame))) => self.take(frame).await?,
                    Ok(Ok(None)) => ended = true,
                    Ok(Err(Stop::Reset | Stop::Lost)) => return Ok(Leave::Gone),
                    Ok(Err(Stop::Decode(error))) => return Err(self.session.refused_frame(&error)),
                    Err(_) if self.due.is_empty() => return Ok(Leave::Idle),
                    Err(_) => {}
                },
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), Code> {
        let shared = &self.session.shared;
        match frame {
            Frame::Send(send) => {
                self.session.pace().await;
                let accounts = self.accounts().await?;
                shared.metrics.envelope.inc_by(send.envelope.0.len() as u64);
                self.append(accounts, send).await
            }
            Frame::ReadMark(mark) => self.read(mark.up_to).await,
            Frame::Typing(typing) => {
                // Typing is a courtesy: a device that says too much of it isn't slowed down, but
                // not passed on either.
                if self.session.may_pass() {
                    self.tell_typing(typing.active).await?;
                }
                Ok(())
            }
            Frame::Extension(_) => Ok(()),
            _ => Err(Code::UnexpectedFrame),
        }
    }

    async fn append(
        &mut self,
        accounts: [Arc<AccountInfo>; 2],
        send: tern_protocol::frame::Send,
    ) -> Result<(), Code> {
        let owners = &self.session.shared.owners;
        let (conversation, device, counter) =
            (self.conversation, self.session.device, send.counter);
        let begun = match self.place {
            Place::Here => owners.append(Place::Here, conversation, device, accounts, send).await,
            place => {
                let there = owners
                    .append(place, conversation, device, accounts.clone(), send.clone())
                    .await;
                match there {
                    // By right it is another's, but correct it is here as well.
                    Err(BeginError::Unreachable) if self.due.is_empty() => {
                        self.place = Place::Here;
                        owners.append(Place::Here, conversation, device, accounts, send).await
                    }
                    other => other,
                }
            }
        };
        self.due.push_back(match begun {
            Ok(answer) => Due::Send(counter, answer),
            Err(BeginError::Unreachable) => Due::GivenUp(counter),
            Err(_) => return Err(Code::GoingAway),
        });
        Ok(())
    }

    async fn read(&mut self, up_to: u64) -> Result<(), Code> {
        let owners = &self.session.shared.owners;
        let own = self.session.account;
        let answer = owners.read(self.conversation, own, up_to).await;
        self.due.push_back(Due::Read(answer.map_err(|_| Code::GoingAway)?));
        Ok(())
    }

    async fn tell_typing(&self, active: bool) -> Result<(), Code> {
        let account = self.session.account;
        let event = Event::Typing { conversation: self.conversation, account, active };
        for member in self.accounts().await?.iter().filter(|member| member.account != account) {
            for device in &member.devices {
                self.session.shared.post.event(device.device, event.clone());
            }
        }
        self.session.shared.metrics.typing.inc();
        Ok(())
    }

    /// The members with the devices that they have now: asked for each send, since it is to them
    /// that it goes. From memory, nearly always.
    async fn accounts(&self) -> Result<[Arc<AccountInfo>; 2], Code> {
        let accounts = self.session.shared.directory.accounts(self.members).await;
        accounts.map_err(|error| self.session.internal(&error))
    }

    fn answer(&self, answer: Answer, answers: &mut FrameWriter) -> Result<(), Code> {
        let metrics = &self.session.shared.metrics;
        match answer {
            Answer::Send(Ok(accepted)) => {
                metrics.sends_accepted.inc();
                answers.queue(&Frame::Accepted(accepted));
            }
            Answer::Send(Err(refused)) => {
                metrics.sends_refused.count(refused.code);
                answers.queue(&Frame::Refused(refused));
            }
            Answer::Read(Ok(up_to)) => {
                metrics.read_marks.inc();
                answers.queue(&Frame::Marked(Marked { up_to }));
            }
            Answer::Read(Err(code)) => return Err(code),
        }
        Ok(())
    }
}

enum Answer {
    Send(Result<Accepted, Refused>),
    Read(Result<u64, Code>),
}

/// The engine gave the command up.
fn given_up(counter: u64) -> Answer {
    let code = Code::Overloaded;
    Answer::Send(Err(Refused { counter, code, retry_after_ms: RETRY_MS, last: 0 }))
}

/// Waits for the first answer that is due. May be dropped and called again.
async fn next_due(due: &mut VecDeque<Due>) -> Result<Answer, Code> {
    let answer = match due.front_mut() {
        Some(Due::Send(counter, receiver)) => match receiver.await {
            Ok(result) => Answer::Send(result),
            Err(_) => given_up(*counter),
        },
        Some(Due::Read(receiver)) => match receiver.await {
            Ok(result) => Answer::Read(result),
            // Nobody knows where the mark is; the client says it again on its next connection.
            Err(_) => return Err(Code::Internal),
        },
        Some(Due::GivenUp(counter)) => given_up(*counter),
        None => std::future::pending().await,
    };
    due.pop_front();
    Ok(answer)
}

/// The first answer that is due, if it is there already.
fn ready(due: &mut VecDeque<Due>) -> Option<Result<Answer, Code>> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let next = std::pin::pin!(next_due(due));
    match next.poll(&mut context) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}
