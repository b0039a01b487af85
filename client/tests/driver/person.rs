//! A person: a client, what it tells, and the folder where it lives.

use std::{fs, path::Path};

use tempfile::TempDir;
use tern_client::{
    Client, ClientEvent, ConnectionState, Entitlement, Events, Registration, Server, Settings,
    content,
};

use crate::fake::Fake;

pub struct Person {
    pub client: Client,
    pub events: Events,
    pub home: TempDir,
}

pub fn registration(fake: &Fake, name: &str) -> Registration {
    Registration {
        server: Server {
            address: fake.address.to_string(),
            name: None,
            ca_pem: fake.ca_pem.clone(),
        },
        name: name.into(),
        label: "test".into(),
        entitlement: Entitlement::None,
    }
}

pub async fn open(home: &Path) -> (Client, Events) {
    Client::open(home, Settings::default()).await.unwrap()
}

pub async fn person(fake: &Fake, name: &str) -> Person {
    person_with(fake, name, Settings::default()).await
}

pub async fn person_with(fake: &Fake, name: &str, settings: Settings) -> Person {
    let home = tempfile::tempdir().unwrap();
    let (client, events) = Client::open(home.path(), settings).await.unwrap();
    client.register(registration(fake, name)).await.unwrap();
    Person { client, events, home }
}

/// A copy of a home as it is now.
pub fn backup(home: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["tern.db", "tern.db-wal"] {
        fs::copy(home.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

impl Person {
    /// Comes to life out of a home.
    pub async fn restored(home: TempDir) -> Self {
        let (client, events) = open(home.path()).await;
        Self { client, events, home }
    }

    /// The process dies and another one takes its place.
    pub async fn restart(self) -> Self {
        let Self { client, events, home } = self;
        drop((client, events));
        loop {
            match Client::open(home.path(), Settings::default()).await {
                Ok((client, events)) => return Self { client, events, home },
                // Aborted tasks let the lock go when the runtime has got to them.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// The next `count` messages, confirmed.
    pub async fn messages(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            if let ClientEvent::Message(message) = self.events.next().await.unwrap() {
                texts.push(content::text(&content::open(&message.envelope)));
                self.client.confirm([message.local]).await.unwrap();
            }
        }
        texts
    }

    /// Waits for a state of the connection.
    pub async fn connection(&mut self, wanted: impl Fn(&ConnectionState) -> bool) {
        loop {
            if let Some(ClientEvent::Connection(state)) = self.events.next().await
                && wanted(&state)
            {
                return;
            }
        }
    }

    /// Connects, and waits for it.
    pub async fn connected(&mut self) {
        self.client.connect();
        self.connection(|state| matches!(state, ConnectionState::Connected)).await;
    }
}
