//! A device without a store: its key, its ids, and how it signs in.
//!
//! The client library keeps outbox and inbox in SQLite, and a load of many of them on one machine
//! would measure SQLite. This device speaks the same protocol through the same state machines and
//! keeps what it must know in memory.

use std::time::Duration;

use quinn::{ClientConfig, Connection, VarInt};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::CertificateDer;
use tern_protocol::{
    REVISION,
    frame::{Credential, Entitlement, Frame, Hello, Register, Secret, SignIn, Welcome},
    grease,
    id::{AccountId, DeviceId},
    session::{Client, ClientInput},
    signature::{self, CertificateHash},
};
use tokio::time::timeout;

use crate::{
    error::{BenchError, Context, Result},
    io::{FrameReader, FrameWriter},
    network::Network,
};

/// How long a sign-in may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a device proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It becomes a new account.
    Register,
    /// A signature over the server's nonce.
    Signature,
    /// The ticket of its last sign-in.
    Ticket,
}

/// A device of an account of its own.
pub struct Device {
    number: usize,
    name: String,
    key: Ed25519KeyPair,
    ids: Option<(AccountId, DeviceId)>,
    ticket: Option<Secret>,
}

/// A device that is signed in, before anything else happens on its connection.
pub struct SignedIn {
    pub(crate) connection: Connection,
    pub(crate) welcome: Box<Welcome>,
    pub(crate) machine: Client,
    pub(crate) writer: FrameWriter,
    pub(crate) reader: FrameReader,
    /// What came behind the welcome.
    pub(crate) frames: Vec<Frame>,
    /// Whether the hello travelled with the first packet and the server took it from there.
    pub(crate) was_early: bool,
}

impl SignedIn {
    /// Ends the connection in the way of a client that leaves.
    pub fn close(self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }

    /// Whether the server took the hello out of 0-RTT data.
    pub fn was_early(&self) -> bool {
        self.was_early
    }

    /// The server's welcome.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }
}

impl Device {
    /// A device that isn't registered. Numbers tell devices apart and spread them over sockets.
    pub fn new(number: usize) -> Result<Self> {
        let mut seed = [0; 32];
        StdRng::from_os_rng().fill_bytes(&mut seed);
        let key = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| BenchError::new("can't make a device key"))?;
        Ok(Self { number, name: format!("bench-{number}"), key, ids: None, ticket: None })
    }

    /// Registers a new device and leaves it connected.
    pub async fn register(network: &Network, number: usize) -> Result<(Self, SignedIn)> {
        let mut device = Self::new(number)?;
        let config = network.config(crate::network::Resume::Never)?;
        let signed_in = device.sign_in(network, config, Proof::Register).await?;
        Ok((device, signed_in))
    }

    /// Its account, once it is registered.
    pub fn account(&self) -> Result<AccountId> {
        self.ids.map(|(account, _)| account).ok_or_else(|| BenchError::new("not registered"))
    }

    /// Its number.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Connects and signs in. With a ticket and settings that resume with early data, the hello
    /// travels in the first packet if there is a TLS session to do it with.
    pub async fn sign_in(
        &mut self,
        network: &Network,
        config: ClientConfig,
        proof: Proof,
    ) -> Result<SignedIn> {
        let signed_in = timeout(PATIENCE, Box::pin(self.try_sign_in(network, config, proof))).await;
        let signed_in = signed_in
            .map_err(|_| BenchError::new("a sign-in took longer than 30 s"))?
            .map_err(|error| BenchError::new(format!("device {}: {error}", self.number)))?;
        self.ids = Some((signed_in.welcome.account, signed_in.welcome.device));
        self.ticket = Some(signed_in.welcome.ticket.clone());
        Ok(signed_in)
    }

    async fn try_sign_in(
        &self,
        network: &Network,
        config: ClientConfig,
        proof: Proof,
    ) -> Result<SignedIn> {
        let connecting = network.connect(self.number, config)?;
        let (connection, early) = if proof == Proof::Ticket {
            match connecting.into_0rtt() {
                Ok((connection, accepted)) => (connection, Some(accepted)),
                Err(connecting) => (connecting.await.context("no connection")?, None),
            }
        } else {
            (connecting.await.context("no connection")?, None)
        };
        if let Some(accepted) = early {
            // The hello is on its way before it is known whether the server takes it.
            match self.hello(&connection, proof).await {
                Ok(mut signed_in) => {
                    signed_in.was_early = accepted.await;
                    return Ok(signed_in);
                }
                Err(error) if accepted.await => return Err(error),
                // The server didn't take it: everything goes again as 1-RTT data.
                Err(_) => {}
            }
        }
        self.hello(&connection, proof).await
    }

    async fn hello(&self, connection: &Connection, proof: Proof) -> Result<SignedIn> {
        let (send, recv) = connection.open_bi().await.context("no session stream")?;
        let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(recv));
        let ticket = match proof {
            Proof::Ticket => self.ticket.clone(),
            _ => None,
        };
        let mut machine = Client::new(ticket);
        let credential = match machine.begin_hello() {
            Some(ticket) => Credential::Ticket(ticket.clone()),
            None => self.sign(connection, proof).await?,
        };
        let mut random = [0; 66];
        StdRng::from_os_rng().fill_bytes(&mut random);
        writer.push(&Frame::Hello(Hello {
            revision: REVISION,
            active: true,
            software: concat!("tern-bench/", env!("CARGO_PKG_VERSION")).to_owned(),
            extensions: vec![grease::id(random[0])],
            credential,
        }));
        writer.push(&Frame::Extension(grease::frame(&random)));
        writer.flush().await?;
        let mut frames = Vec::new();
        loop {
            if !reader.fill(&mut frames).await? {
                return Err(BenchError::new("the server ended the session stream"));
            }
            let mut rest = frames.drain(..);
            let Some(first) = rest.next() else { continue };
            let input = machine.receive(first).map_err(|code| {
                BenchError::new(format!("the server broke the protocol: {code:?}"))
            })?;
            match input {
                ClientInput::Welcome(welcome) => {
                    let frames = rest.collect();
                    let connection = connection.clone();
                    let was_early = false;
                    return Ok(SignedIn {
                        connection,
                        welcome,
                        machine,
                        writer,
                        reader,
                        frames,
                        was_early,
                    });
                }
                ClientInput::Rejected(rejected, _) => {
                    return Err(BenchError::new(format!(
                        "the server rejected a hello: {} ({})",
                        rejected.code.name(),
                        rejected.text
                    )));
                }
                _ => {}
            }
        }
    }

    async fn sign(&self, connection: &Connection, proof: Proof) -> Result<Credential> {
        let stream = connection.accept_uni().await.context("no greeting")?;
        let mut reader = FrameReader::new(stream);
        let mut frames = Vec::new();
        while frames.is_empty() && reader.fill(&mut frames).await? {}
        let Some(Frame::Greeting(greeting)) = frames.first() else {
            return Err(BenchError::new("the server's first words aren't a greeting"));
        };
        let certificate = connection
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'_>>>().ok())
            .and_then(|chain| chain.first().map(|leaf| CertificateHash::of(leaf)))
            .ok_or_else(|| BenchError::new("the server showed no certificate"))?;
        let sign = |message: &[u8]| {
            let mut signature = [0; 64];
            signature.copy_from_slice(self.key.sign(message).as_ref());
            signature
        };
        if proof == Proof::Register {
            let mut device_key = [0; 32];
            device_key.copy_from_slice(self.key.public_key().as_ref());
            let message =
                signature::register_message(&greeting.nonce, &certificate, &device_key, &self.name);
            return Ok(Credential::Register(Register {
                name: self.name.clone(),
                device_key,
                label: "bench".into(),
                signature: sign(&message),
                entitlement: Entitlement::None,
            }));
        }
        let (account, device) = self.ids.ok_or_else(|| BenchError::new("not registered"))?;
        let message = signature::sign_in_message(&greeting.nonce, &certificate, account, device);
        Ok(Credential::SignIn(SignIn { account, device, signature: sign(&message) }))
    }
}
