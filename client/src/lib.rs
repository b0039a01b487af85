//! A client of the Tern chat protocol: one device of an account, with a local store that survives
//! being killed at any point.
//!
//! A [`Client`] lives in a folder. It keeps a connection to its server for as long as it runs, through
//! lost networks and restarted servers; messages that wait are sent when there is a connection, and what
//! arrives is stored before it is acknowledged. The application sends, and reads [`Events`]:
//!
//! ```no_run
//! use tern_client::{Client, ClientEvent, Entitlement, Registration, Server, Settings, Tick, content};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (client, mut events) = Client::open("/home/ann/.tern", Settings::default()).await?;
//! if client.identity().await?.is_none() {
//!     client
//!         .register(Registration {
//!             server: Server {
//!                 address: "127.0.0.1:4433".into(),
//!                 name: None,
//!                 ca_pem: std::fs::read_to_string("ca.pem")?,
//!             },
//!             name: "ann".into(),
//!             label: "Ann's laptop".into(),
//!             entitlement: Entitlement::None,
//!         })
//!         .await?;
//! }
//! client.connect();
//! let message = client.send("bob", b"Hi").await?;
//! client.wait_for_tick(message, Tick::Sent).await?;
//! while let Some(event) = events.next().await {
//!     if let ClientEvent::Message(message) = event {
//!         println!("{}: {}", message.name, content::text(&content::open(&message.envelope)));
//!         client.confirm([message.local]).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is safe against what
//!
//! - [`Client::send`] returns when the message survives a loss of power. It reaches the server once,
//!   in order, however often client and server die.
//! - A message that was acknowledged to the server survives a loss of power here.
//! - A message comes as an event until it is confirmed. An application that dies between showing a message
//!   and [`Client::confirm`] gets that one message again after its restart: no program can make a screen
//!   and a disk change at the same instant. Such a repeat has the same `(conversation, seq)`.
//!
//! # How it is built
//!
//! What both ends must agree on is decided by the state machines of [`tern_protocol`], without I/O.
//! This crate adds the store, the driver over `quinn`, and the handle. Sockets, seed, time of day and the thread of
//! the store are [`Settings`], so that a simulator runs this very code.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod backoff;
mod client;
pub mod content;
mod core;
mod driver;
mod error;
mod event;
mod events;
mod home;
mod identity;
mod network;
mod sessions;
mod settings;
mod store;

pub use client::{Client, Recipient, Registration, Status};
pub use error::{ConnectError, OpenError, RegisterError, RequestError, SendError};
pub use event::{ClientEvent, ConnectionState};
pub use events::Events;
pub use home::HomeError;
pub use identity::{Identity, Server};
pub use network::{Network, ServerError, SystemNetwork};
pub use settings::{KeepAlive, Settings};
pub use store::{
    StoreError,
    conversations::Conversation,
    history::{StoredMessage, Tick},
    outbox::LocalId,
};
pub use tern_protocol::{
    code::Code,
    frame::{Device, Entitlement, Envelope, Mailbox, PresenceState, Secret},
    id::{AccountId, ConversationId, DeviceId},
};

pub use crate::content::ContentError;
