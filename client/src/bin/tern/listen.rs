//! `tern listen`.

use std::{collections::BTreeSet, future::pending, time::Duration};

use serde_json::{Value, json};
use tern_client::{
    AccountId, Client, ClientEvent, ConnectionState, Events, PresenceState, StoredMessage, content,
};

use crate::{
    args::Listen,
    failure::Failure,
    output::{self, Paint},
};

/// How long the last read marks may take to reach the server.
const MARK_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) async fn run(client: &Client, events: Events, args: &Listen) -> Result<(), Failure> {
    let mut listener = Listener {
        client,
        args,
        paint: Paint::stdout(),
        own: client.identity().await?.map(|own| own.account),
        watched: BTreeSet::new(),
        printed: 0,
    };
    client.connect();
    listener.watch_all().await?;
    let timeout = async {
        match args.timeout {
            Some(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds)).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        result = listener.listen(events) => result?,
        _ = tokio::signal::ctrl_c() => {}
        () = timeout => {
            let printed = listener.printed;
            if let Some(count) = args.count && printed < count {
                let what = format!("{printed} of {count} messages within the timeout");
                return Err(Failure::TimedOut(what));
            }
        }
    }
    if args.read {
        let told = async {
            while !client.is_settled().await.unwrap_or(true) {
                tick().await
            }
        };
        let _ = tokio::time::timeout(MARK_TIMEOUT, told).await;
    }
    Ok(())
}

async fn tick() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

struct Listener<'a> {
    client: &'a Client,
    args: &'a Listen,
    paint: Paint,
    own: Option<AccountId>,
    watched: BTreeSet<AccountId>,
    printed: u64,
}

impl Listener<'_> {
    async fn listen(&mut self, mut events: Events) -> Result<(), Failure> {
        if self.args.count == Some(0) {
            return Ok(());
        }
        while let Some(event) = events.next().await {
            match event {
                ClientEvent::Message(message) => {
                    self.message(&message).await?;
                    if self.args.count == Some(self.printed) {
                        return Ok(());
                    }
                }
                ClientEvent::Connection(ConnectionState::Stopped { error }) => {
                    self.connection("stopped", Some(error.to_string()))?;
                    return Err(error.into());
                }
                other => self.news(other).await?,
            }
        }
        Ok(())
    }

    async fn message(&mut self, message: &StoredMessage) -> Result<(), Failure> {
        let text = content::text(&content::open(&message.envelope));
        if self.args.json {
            print(json!({
                "event": "message",
                "conversation": message.conversation.to_string(),
                "from": message.name,
                "account": message.account.to_string(),
                "device": message.device.to_string(),
                "seq": message.seq,
                "id": format!("{:016x}", message.message_id),
                "time_ms": message.time_ms,
                "text": text,
            }))?;
        } else {
            output::line(&format!(
                "{} {} {}",
                self.paint.dim(&output::clock(message.time_ms)),
                self.paint.bold(&self.paint.cyan(&format!("{}:", message.name))),
                output::printable(&text)
            ))?;
        }
        // The line is out; from here on the message isn't printed again. Dying between the two is
        // the one moment in which it would be.
        self.client.confirm([message.local]).await?;
        self.printed += 1;
        if self.args.read
            && let Some(seq) = message.seq
        {
            self.client.mark_read(message.conversation, seq).await?;
        }
        self.watch(message.account).await;
        Ok(())
    }

    async fn news(&mut self, event: ClientEvent) -> Result<(), Failure> {
        match event {
            ClientEvent::Connection(ConnectionState::Connecting) => {
                self.connection("connecting", None)?;
            }
            ClientEvent::Connection(ConnectionState::Connected) => {
                self.connection("connected", None)?;
            }
            ClientEvent::Connection(ConnectionState::Waiting { error, .. }) => {
                self.connection("waiting", Some(error.to_string()))?;
            }
            ClientEvent::Receipt { conversation, account, delivered, read } => {
                let name = self.name(account).await?;
                let human = format!("{name} has {delivered}, read {read}");
                self.print(
                    || {
                        json!({
                            "event": "receipt",
                            "conversation": conversation.to_string(),
                            "account": account.to_string(),
                            "name": name,
                            "delivered": delivered,
                            "read": read,
                        })
                    },
                    &human,
                )?;
            }
            ClientEvent::Sent { local, conversation, seq, time_ms } => self.print(
                || {
                    json!({
                        "event": "sent",
                        "local": local.get(),
                        "conversation": conversation.to_string(),
                        "seq": seq,
                        "time_ms": time_ms,
                    })
                },
                "a message from the outbox was sent",
            )?,
            ClientEvent::Failed { local, code } => self.print(
                || json!({ "event": "failed", "local": local.get(), "code": code.name() }),
                &format!("a message from the outbox failed: {}", code.meaning()),
            )?,
            ClientEvent::Presence { account, state, last_seen_ms } => {
                let name = self.name(account).await?;
                let state = presence_name(state);
                self.print(
                    || {
                        json!({
                            "event": "presence",
                            "account": account.to_string(),
                            "name": name,
                            "state": state,
                            "last_seen_ms": last_seen_ms,
                        })
                    },
                    &format!("{name} is {state}"),
                )?;
            }
            ClientEvent::Typing { conversation, account, active } => {
                let name = self.name(account).await?;
                let human =
                    format!("{name} {}", if active { "is typing" } else { "stopped typing" });
                self.print(
                    || {
                        json!({
                            "event": "typing",
                            "conversation": conversation.to_string(),
                            "account": account.to_string(),
                            "name": name,
                            "active": active,
                        })
                    },
                    &human,
                )?;
            }
            ClientEvent::CaughtUp(mailbox) => {
                self.watch_all().await?;
                self.print(
                    || {
                        json!({
                            "event": "caught_up",
                            "conversations": mailbox.conversations,
                            "positions": mailbox.positions,
                        })
                    },
                    "caught up",
                )?;
            }
            ClientEvent::Gap { conversation } => self.print(
                || json!({ "event": "gap", "conversation": conversation.to_string() }),
                "the server no longer has some messages of a conversation",
            )?,
            ClientEvent::Lagged => {
                self.print(|| json!({ "event": "lagged" }), "some news were left out")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn connection(&self, state: &str, error: Option<String>) -> Result<(), Failure> {
        let human = match &error {
            Some(error) => format!("{state}: {error}"),
            None => state.to_owned(),
        };
        let mut value = json!({ "event": "connection", "state": state });
        if let Some(error) = error {
            value["error"] = error.into();
        }
        self.print(|| value, &human)
    }

    fn print(&self, value: impl FnOnce() -> Value, human: &str) -> Result<(), Failure> {
        if self.args.json {
            print(value())
        } else {
            Ok(output::line(&self.paint.dim(&format!("· {human}")))?)
        }
    }

    async fn name(&self, account: AccountId) -> Result<String, Failure> {
        Ok(self.client.name_of(account).await?.unwrap_or_else(|| account.to_string()))
    }

    async fn watch_all(&mut self) -> Result<(), Failure> {
        for conversation in self.client.status().await?.conversations {
            self.watch(conversation.peer).await;
        }
        Ok(())
    }

    async fn watch(&mut self, account: AccountId) {
        if Some(account) != self.own && self.watched.insert(account) {
            self.client.watch([account]).await;
        }
    }
}

fn print(value: Value) -> Result<(), Failure> {
    Ok(output::line(&value.to_string())?)
}

/// The word for a presence.
pub(crate) fn presence_name(state: PresenceState) -> &'static str {
    match state {
        PresenceState::Unknown => "unknown",
        PresenceState::Offline => "offline",
        PresenceState::Online => "online",
    }
}
