//! The session stream (SPEC.md chapter 5): which frames may come when, and what the client does about
//! its ticket. [`Server`] and [`Client`] are the two halves.

use std::collections::BTreeSet;

use crate::{
    REVISION,
    code::Code,
    frame::{
        Event, Frame, GoAway, Hello, Rejected, Request, RequestBody, Response, Secret, Welcome,
    },
    limits,
};

/// What a server does with a frame of the session stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerInput {
    /// Judge this hello, then call [`Server::welcomed`] or [`Server::rejected`].
    Hello(Hello),
    /// Answer this request, then call [`Server::responded`].
    Request(Request),
    /// Nothing: an extension that isn't in use.
    Ignored,
}

/// The server's half.
#[derive(Debug)]
pub struct Server {
    state: ServerState,
    /// The limit on requests without a response.
    requests: u16,
}

#[derive(Debug, PartialEq, Eq)]
enum ServerState {
    AwaitingHello { rejected: u8, judging: bool },
    Open { unanswered: u16 },
}

impl Server {
    /// A session that awaits its hello; `requests` is the limit that the welcome will announce.
    pub fn new(requests: u16) -> Self {
        Self { state: ServerState::AwaitingHello { rejected: 0, judging: false }, requests }
    }

    /// Whether more may be read now: not while a hello is judged or too many requests are
    /// unanswered. Reading no further is what holds a flood of requests back.
    pub fn may_read(&self) -> bool {
        match self.state {
            ServerState::AwaitingHello { judging, .. } => !judging,
            ServerState::Open { unanswered } => unanswered < self.requests,
        }
    }

    /// Takes a frame; the error closes the connection.
    pub fn receive(&mut self, frame: Frame) -> Result<ServerInput, Code> {
        match (&mut self.state, frame) {
            (ServerState::AwaitingHello { judging, .. }, Frame::Hello(hello)) if !*judging => {
                *judging = true;
                Ok(ServerInput::Hello(hello))
            }
            (ServerState::Open { unanswered }, Frame::Request(request)) => {
                *unanswered += 1;
                Ok(ServerInput::Request(request))
            }
            // A client sends grease as soon as its hello is out, so before it knows the answer.
            (ServerState::AwaitingHello { rejected, judging }, Frame::Extension(_))
                if *judging || *rejected > 0 =>
            {
                Ok(ServerInput::Ignored)
            }
            (ServerState::Open { .. }, Frame::Extension(_)) => Ok(ServerInput::Ignored),
            _ => Err(Code::UnexpectedFrame),
        }
    }

    /// Whether the revision of a hello can be spoken.
    pub fn check_revision(hello: &Hello) -> Result<(), Code> {
        match hello.revision {
            1..=REVISION => Ok(()),
            _ => Err(Code::UnsupportedRevision),
        }
    }

    /// The hello was acceptable.
    pub fn welcomed(&mut self) {
        self.state = ServerState::Open { unanswered: 0 };
    }

    /// The hello was rejected. The error closes the connection: it was the last attempt.
    pub fn rejected(&mut self) -> Result<(), Code> {
        if let ServerState::AwaitingHello { rejected, judging } = &mut self.state {
            *rejected += 1;
            *judging = false;
            if *rejected >= limits::HELLOS {
                return Err(Code::TooManyHellos);
            }
        }
        Ok(())
    }

    /// A request was answered.
    pub fn responded(&mut self) {
        if let ServerState::Open { unanswered } = &mut self.state {
            *unanswered = unanswered.saturating_sub(1);
        }
    }

    /// The longest frame that may come next, in bytes.
    pub fn frame_bytes(&self) -> usize {
        match self.state {
            ServerState::AwaitingHello { .. } => limits::FIRST_FRAME_BYTES,
            ServerState::Open { .. } => limits::FRAME_BYTES,
        }
    }
}

/// What a client does with a frame of the session stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientInput {
    /// Signed in. Keep the ticket.
    Welcome(Box<Welcome>),
    /// Not signed in; what to do about it.
    Rejected(Rejected, AfterRejection),
    /// The answer to a request.
    Response(Response),
    /// Something happened.
    Event(Event),
    /// The server will close the connection.
    GoAway(GoAway),
    /// Nothing: an extension that isn't in use, or an event of a later revision.
    Ignored,
}

/// What a client does after a rejected hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRejection {
    /// The ticket is forgotten: send a hello with a signature, on the same stream.
    SignIn,
    /// Close; connect again after so many milliseconds.
    Later(u64),
    /// Close and tell the user: trying again would give the same answer.
    GiveUp,
}

/// The client's half, with its care of the ticket.
#[derive(Debug)]
pub struct Client {
    state: ClientState,
    ticket: Option<Secret>,
    presented_ticket: bool,
    rejected: bool,
    went_away: bool,
    next_request: u32,
    unanswered: BTreeSet<u32>,
    requests: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientState {
    Start,
    AwaitingWelcome,
    Open,
}

impl Client {
    /// A session that will present `ticket` if there is one.
    pub fn new(ticket: Option<Secret>) -> Self {
        Self {
            state: ClientState::Start,
            ticket,
            presented_ticket: false,
            rejected: false,
            went_away: false,
            next_request: 1,
            unanswered: BTreeSet::new(),
            requests: limits::REQUESTS,
        }
    }

    /// Begins a hello: the ticket to present, or `None` for a signature.
    pub fn begin_hello(&mut self) -> Option<&Secret> {
        self.state = ClientState::AwaitingWelcome;
        self.presented_ticket = self.ticket.is_some();
        self.ticket.as_ref()
    }

    /// The ticket to keep for the next connection: the newest, or none if it was rejected.
    pub fn ticket(&self) -> Option<&Secret> {
        self.ticket.as_ref()
    }

    /// Makes a request, or `None` before the welcome and while too many are unanswered.
    pub fn request(&mut self, body: RequestBody) -> Option<Request> {
        if self.state != ClientState::Open || self.unanswered.len() >= usize::from(self.requests) {
            return None;
        }
        let id = self.next_request;
        self.next_request = self.next_request.wrapping_add(1);
        self.unanswered.insert(id);
        Some(Request { id, body })
    }

    /// Takes a frame; the error closes the connection.
    pub fn receive(&mut self, frame: Frame) -> Result<ClientInput, Code> {
        match (self.state, frame) {
            (ClientState::AwaitingWelcome, Frame::Welcome(welcome)) => {
                if !(1..=REVISION).contains(&welcome.revision) {
                    return Err(Code::UnexpectedFrame);
                }
                self.state = ClientState::Open;
                self.ticket = Some(welcome.ticket.clone());
                self.requests = welcome.limits.requests.max(1);
                Ok(ClientInput::Welcome(Box::new(welcome)))
            }
            (ClientState::AwaitingWelcome, Frame::Rejected(rejected)) => {
                self.state = ClientState::Start;
                self.rejected = true;
                let next = self.after(&rejected);
                Ok(ClientInput::Rejected(rejected, next))
            }
            (ClientState::Open, Frame::Response(response)) => {
                if !self.unanswered.remove(&response.id) {
                    return Err(Code::UnexpectedFrame);
                }
                Ok(ClientInput::Response(response))
            }
            (ClientState::Open, Frame::Event(Event::Unknown(_))) => Ok(ClientInput::Ignored),
            (ClientState::Open, Frame::Event(event)) => Ok(ClientInput::Event(event)),
            (ClientState::Open, Frame::GoAway(go_away)) if !self.went_away => {
                self.went_away = true;
                Ok(ClientInput::GoAway(go_away))
            }
            (ClientState::Open, Frame::Extension(_)) => Ok(ClientInput::Ignored),
            // A rejection is a first frame as well.
            (_, Frame::Extension(_)) if self.rejected => Ok(ClientInput::Ignored),
            _ => Err(Code::UnexpectedFrame),
        }
    }

    fn after(&mut self, rejected: &Rejected) -> AfterRejection {
        let by_ticket = std::mem::take(&mut self.presented_ticket);
        match rejected.code {
            // A ticket may be void although the device isn't, so the signature has the last word.
            Code::TicketInvalid | Code::TicketExpired | Code::UnknownDevice if by_ticket => {
                self.ticket = None;
                AfterRejection::SignIn
            }
            _ if rejected.retry_after_ms > 0 => AfterRejection::Later(rejected.retry_after_ms),
            _ => AfterRejection::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        frame::{Credential, Extension, Limits, Mailbox, ResponseBody},
        id::{AccountId, DeviceId},
    };

    fn hello(revision: u16) -> Hello {
        Hello {
            revision,
            active: true,
            software: String::new(),
            extensions: Vec::new(),
            credential: Credential::Ticket(Secret::new([1])),
        }
    }

    fn welcome(ticket: &[u8]) -> Frame {
        Frame::Welcome(Welcome {
            revision: 1,
            account: AccountId::new(1).unwrap(),
            device: DeviceId::new(1).unwrap(),
            name: "ann".into(),
            epoch: 1,
            ticket: Secret::new(ticket),
            ticket_for_ms: 1,
            time_ms: 1,
            mailbox: Mailbox::default(),
            limits: Limits { requests: 2, ..Limits::default() },
            extensions: Vec::new(),
        })
    }

    fn rejected(code: Code, retry_after_ms: u64) -> Frame {
        Frame::Rejected(Rejected { code, text: String::new(), retry_after_ms })
    }

    fn grease() -> Frame {
        Frame::Extension(Extension { id: 0x0a0a, body: Bytes::new() })
    }

    fn ping(id: u32) -> Frame {
        Frame::Request(Request { id, body: RequestBody::Ping })
    }

    #[test]
    fn a_hello_comes_first_and_once() {
        for early in [ping(1), grease(), welcome(b"t")] {
            assert_eq!(Server::new(4).receive(early), Err(Code::UnexpectedFrame));
        }
        let mut server = Server::new(4);
        assert!(matches!(server.receive(Frame::Hello(hello(1))), Ok(ServerInput::Hello(_))));
        assert!(!server.may_read());
        server.welcomed();
        assert_eq!(server.receive(Frame::Hello(hello(1))), Err(Code::UnexpectedFrame));
    }

    #[test]
    fn three_hellos_are_enough() {
        let mut server = Server::new(4);
        for attempt in 1..=3 {
            server.receive(Frame::Hello(hello(1))).unwrap();
            let expected = if attempt < 3 { Ok(()) } else { Err(Code::TooManyHellos) };
            assert_eq!(server.rejected(), expected);
        }
    }

    #[test]
    fn revisions_are_checked() {
        assert_eq!(Server::check_revision(&hello(0)), Err(Code::UnsupportedRevision));
        assert_eq!(Server::check_revision(&hello(1)), Ok(()));
        assert_eq!(Server::check_revision(&hello(2)), Err(Code::UnsupportedRevision));
    }

    #[test]
    fn unanswered_requests_stop_the_reading() {
        let mut server = Server::new(2);
        server.receive(Frame::Hello(hello(1))).unwrap();
        server.welcomed();
        server.receive(ping(1)).unwrap();
        assert!(server.may_read());
        server.receive(ping(2)).unwrap();
        assert!(!server.may_read());
        server.responded();
        assert!(server.may_read());
    }

    #[test]
    fn a_rejected_ticket_is_forgotten_and_a_signature_follows() {
        for code in [Code::TicketInvalid, Code::TicketExpired, Code::UnknownDevice] {
            let mut client = Client::new(Some(Secret::new(*b"old")));
            assert!(client.begin_hello().is_some());
            let input = client.receive(rejected(code, 0)).unwrap();
            assert!(matches!(input, ClientInput::Rejected(_, AfterRejection::SignIn)));
            assert_eq!(client.ticket(), None);
            assert_eq!(client.begin_hello(), None);
            // The signature's rejection is final.
            let input = client.receive(rejected(Code::UnknownDevice, 0)).unwrap();
            assert!(matches!(input, ClientInput::Rejected(_, AfterRejection::GiveUp)));
        }
    }

    #[test]
    fn extensions_follow_a_first_frame_and_are_ignored() {
        let mut client = Client::new(Some(Secret::new(*b"old")));
        client.begin_hello();
        assert_eq!(client.receive(grease()), Err(Code::UnexpectedFrame));
        client.receive(rejected(Code::TicketExpired, 0)).unwrap();
        assert_eq!(client.receive(grease()), Ok(ClientInput::Ignored));
        client.begin_hello();
        assert_eq!(client.receive(grease()), Ok(ClientInput::Ignored));
        client.receive(welcome(b"t")).unwrap();
        assert_eq!(client.receive(grease()), Ok(ClientInput::Ignored));
    }

    #[test]
    fn a_ticket_survives_a_server_that_is_busy() {
        let mut client = Client::new(Some(Secret::new(*b"good")));
        client.begin_hello();
        let input = client.receive(rejected(Code::Overloaded, 500)).unwrap();
        assert!(matches!(input, ClientInput::Rejected(_, AfterRejection::Later(500))));
        assert_eq!(client.ticket().unwrap().expose(), b"good");
    }

    #[test]
    fn the_newest_ticket_is_kept() {
        let mut client = Client::new(Some(Secret::new(*b"old")));
        client.begin_hello();
        client.receive(welcome(b"new")).unwrap();
        assert_eq!(client.ticket().unwrap().expose(), b"new");
    }

    #[test]
    fn responses_answer_requests_once() {
        let mut client = Client::new(None);
        assert_eq!(client.request(RequestBody::Ping), None);
        client.begin_hello();
        client.receive(welcome(b"t")).unwrap();
        let first = client.request(RequestBody::Ping).unwrap();
        client.request(RequestBody::Ping).unwrap();
        assert_eq!(client.request(RequestBody::Ping), None);
        let done = Frame::Response(Response { id: first.id, body: ResponseBody::Done });
        assert!(client.receive(done.clone()).is_ok());
        assert_eq!(client.receive(done), Err(Code::UnexpectedFrame));
        assert!(client.request(RequestBody::Ping).is_some());
    }
}
