//! A connection and streams of which the test says every byte.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream};
use tern_protocol::{
    code::Code,
    codec,
    frame::{
        Credential, Entitlement, Extension, Frame, Greeting, Hello, Register, Rejected, SignIn,
        Welcome,
    },
    framing::Deframer,
    id::{AccountId, DeviceId},
    limits,
    signature::{self, CertificateHash},
};

use super::{Key, wait};

/// QUIC settings of a well-behaved client.
pub(crate) fn client_config(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_bidi_streams(32u32.into()).max_concurrent_uni_streams(1u32.into());
    // Tests look at what the server says, not at who forgot whom.
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    config.transport_config(Arc::new(transport));
    config
}

/// The code of a connection's end, which the server must have closed.
pub(crate) fn code_of(end: &ConnectionError) -> Code {
    match end {
        ConnectionError::ApplicationClosed(close) => {
            Code::from(u16::try_from(close.error_code.into_inner()).unwrap())
        }
        other => panic!("the server should have closed the connection, not: {other}"),
    }
}

/// A code as QUIC has it.
pub(crate) fn var_int(code: Code) -> quinn::VarInt {
    quinn::VarInt::from_u32(u32::from(code.value()))
}

/// How the server's direction of a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With FIN.
    Finished,
    /// It was reset.
    Reset(Code),
    /// With the connection.
    Closed(Code),
}

/// One bidirectional stream.
pub(crate) struct Stream {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    deframer: Deframer,
    /// The extension frames that came.
    pub(crate) extensions: Vec<Extension>,
}

impl Stream {
    pub(crate) fn new((send, recv): (SendStream, RecvStream)) -> Self {
        let deframer = Deframer::new(limits::FRAME_BYTES);
        Self { send, recv, deframer, extensions: Vec::new() }
    }

    /// Sends bytes, whatever they are. The server may have ended the stream already.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        let _ = wait("room to send", self.send.write_all(bytes)).await;
    }

    /// Sends a frame.
    pub(crate) async fn say(&mut self, frame: &Frame) {
        self.bytes(&codec::encode(frame)).await;
    }

    /// Sends several in one go.
    pub(crate) async fn say_all(&mut self, frames: &[Frame]) {
        let mut bytes = bytes::BytesMut::new();
        frames.iter().for_each(|frame| codec::encode_into(frame, &mut bytes));
        self.bytes(&bytes).await;
    }

    pub(crate) fn finish(&mut self) {
        self.send.finish().unwrap();
    }

    /// The next frame that isn't of an extension, or how the stream ended.
    pub(crate) async fn next(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = self.deframer.next_frame().unwrap() {
                match codec::decode(frame).unwrap() {
                    Frame::Extension(extension) => {
                        self.extensions.push(extension);
                        continue;
                    }
                    frame => return Ok(frame),
                }
            }
            match wait("a frame", self.recv.read_chunk(1 << 16, true)).await {
                Ok(Some(chunk)) => self.deframer.push(&chunk.bytes),
                Ok(None) => return Err(Ended::Finished),
                Err(ReadError::Reset(code)) => {
                    let code = u16::try_from(code.into_inner()).unwrap();
                    return Err(Ended::Reset(Code::from(code)));
                }
                Err(ReadError::ConnectionLost(end)) => return Err(Ended::Closed(code_of(&end))),
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// The next frame, of a stream that goes on.
    pub(crate) async fn frame(&mut self) -> Frame {
        self.next().await.unwrap_or_else(|end| panic!("a frame was due, and not {end:?}"))
    }

    /// How the stream ends, whatever frames come before.
    pub(crate) async fn end(&mut self) -> Ended {
        loop {
            if let Err(end) = self.next().await {
                return end;
            }
        }
    }

    /// The code with which the server asks to send no more; `None` if it took everything.
    pub(crate) async fn stopped(&mut self) -> Option<Code> {
        let code = wait("the stop of a stream", self.send.stopped()).await.unwrap();
        code.map(|code| Code::from(u16::try_from(code.into_inner()).unwrap()))
    }
}

/// A connection that was greeted.
pub(crate) struct Raw {
    pub(crate) connection: Connection,
    pub(crate) greeting: Greeting,
    /// SHA-256 of the certificate that the server showed.
    pub(crate) certificate: CertificateHash,
    /// The session stream.
    pub(crate) session: Stream,
    /// Rejections, for tests that want to see them.
    pub(crate) rejected: VecDeque<Rejected>,
}

impl Raw {
    /// Connects and is greeted.
    pub(crate) async fn connect(
        endpoint: &quinn::Endpoint,
        config: quinn::ClientConfig,
        address: SocketAddr,
    ) -> Result<Self, ConnectionError> {
        let connecting = endpoint.connect_with(config, address, "localhost").unwrap();
        Self::greeted(wait("a handshake", connecting).await?).await
    }

    /// The connection is there; the greeting comes.
    pub(crate) async fn greeted(connection: Connection) -> Result<Self, ConnectionError> {
        let mut greeting = wait("the greeting", connection.accept_uni()).await?;
        let bytes = wait("the greeting", greeting.read_to_end(8_192)).await.unwrap();
        let mut deframer = Deframer::new(limits::FIRST_FRAME_BYTES);
        deframer.push(&bytes);
        let Frame::Greeting(greeting) =
            codec::decode(deframer.next_frame().unwrap().unwrap()).unwrap()
        else {
            panic!("no greeting")
        };
        let session = Stream::new(connection.open_bi().await?);
        let identity = connection.peer_identity().unwrap();
        let chain = identity.downcast::<Vec<rustls::pki_types::CertificateDer<'_>>>().unwrap();
        let certificate = CertificateHash::of(&chain[0]);
        Ok(Self { connection, greeting, certificate, session, rejected: VecDeque::new() })
    }

    /// A further stream.
    pub(crate) async fn open(&self) -> Stream {
        Stream::new(wait("a stream's permission", self.connection.open_bi()).await.unwrap())
    }

    /// The code with which the server closes the connection.
    pub(crate) async fn closed(&self) -> Code {
        code_of(&wait("the connection's end", self.connection.closed()).await)
    }

    /// A credential by signature.
    pub(crate) fn sign_in(&self, key: &Key, account: AccountId, device: DeviceId) -> Credential {
        let message =
            signature::sign_in_message(&self.greeting.nonce, &self.certificate, account, device);
        Credential::SignIn(SignIn { account, device, signature: key.sign(&message) })
    }

    /// A credential that registers.
    pub(crate) fn register(&self, key: &Key, name: &str, entitlement: Entitlement) -> Credential {
        let device_key = key.public();
        let message =
            signature::register_message(&self.greeting.nonce, &self.certificate, &device_key, name);
        Credential::Register(Register {
            name: name.to_owned(),
            device_key,
            label: "a test's device".to_owned(),
            signature: key.sign(&message),
            entitlement,
        })
    }

    /// Says hello and hears the answer.
    pub(crate) async fn hello(&mut self, credential: Credential) -> Result<Welcome, Rejected> {
        self.hello_as(hello(credential)).await
    }

    /// Says this hello and hears the answer.
    pub(crate) async fn hello_as(&mut self, hello: Hello) -> Result<Welcome, Rejected> {
        self.session.say(&Frame::Hello(hello)).await;
        self.answer().await
    }

    /// Hears the answer to a hello.
    pub(crate) async fn answer(&mut self) -> Result<Welcome, Rejected> {
        match self.session.frame().await {
            Frame::Welcome(welcome) => Ok(welcome),
            Frame::Rejected(rejected) => Err(rejected),
            other => panic!("neither welcome nor rejected: {other:?}"),
        }
    }

    /// Says a hello that must be rejected.
    pub(crate) async fn rejected(&mut self, credential: Credential) -> Code {
        match self.hello(credential).await {
            Ok(_) => panic!("the hello should have been rejected"),
            Err(rejected) => rejected.code,
        }
    }
}

/// A hello of an active client.
pub(crate) fn hello(credential: Credential) -> Hello {
    Hello {
        revision: 1,
        active: true,
        software: "tern-tests".to_owned(),
        extensions: vec![0x5a5a],
        credential,
    }
}
