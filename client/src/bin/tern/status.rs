//! `tern status`.

use std::time::Duration;

use serde_json::json;
use tern_client::{Client, ClientEvent, ConnectError, ConnectionState, Events, Status};

use crate::{
    failure::Failure,
    output::{self, Paint},
};

/// How long the check of the connection may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until the client is signed in. The first failure is the answer: somebody is waiting.
pub(crate) async fn until_connected(events: &mut Events) -> Result<(), ConnectError> {
    while let Some(event) = events.next().await {
        match event {
            ClientEvent::Connection(ConnectionState::Connected) => return Ok(()),
            ClientEvent::Connection(
                ConnectionState::Waiting { error, .. } | ConnectionState::Stopped { error },
            ) => return Err(error),
            _ => {}
        }
    }
    Err(ConnectError::TimedOut)
}

pub(crate) async fn run(client: &Client, mut events: Events, json: bool) -> Result<(), Failure> {
    client.connect();
    let check = async {
        until_connected(&mut events).await.map_err(|error| error.to_string())?;
        client.ping().await.map_err(|error| error.to_string())
    };
    let check = match tokio::time::timeout(CHECK_TIMEOUT, check).await {
        Ok(check) => check,
        Err(_) => Err(ConnectError::TimedOut.to_string()),
    };
    let status = client.status().await?;
    if json { as_json(&status, &check) } else { for_people(&status, &check) }
}

fn as_json(status: &Status, check: &Result<(), String>) -> Result<(), Failure> {
    let identity = status.identity.as_ref();
    let conversations: Vec<_> = status
        .conversations
        .iter()
        .map(|conversation| {
            json!({
                "conversation": conversation.id.to_string(),
                "peer": conversation.peer_name,
                "account": conversation.peer.to_string(),
                "last_seq": conversation.last_seq,
                "position": conversation.position,
                "read": conversation.read,
                "unread": conversation.unread,
                "waiting": conversation.waiting,
            })
        })
        .collect();
    let value = json!({
        "name": identity.map(|own| own.name.as_str()),
        "account": identity.map(|own| own.account.to_string()),
        "device": identity.map(|own| own.device.to_string()),
        "label": identity.map(|own| own.label.as_str()),
        "server": identity.map(|own| own.server.address.as_str()),
        "connected": check.is_ok(),
        "error": check.as_ref().err(),
        "last_connected_ms": status.last_connected_ms,
        "outbox": status.outbox,
        "conversations": conversations,
    });
    Ok(output::line(&value.to_string())?)
}

fn for_people(status: &Status, check: &Result<(), String>) -> Result<(), Failure> {
    let paint = Paint::stdout();
    let mut lines = Vec::new();
    if let Some(own) = &status.identity {
        let label = output::printable(&own.label);
        lines.push(format!("{}  device {} ({label})", paint.bold(&own.name), own.device));
        let check = match check {
            Ok(()) => paint.green("connected"),
            Err(error) => paint.red(error),
        };
        lines.push(format!("{}  {check}", own.server.address));
    }
    lines.push(match status.outbox {
        0 => "nothing waits to be sent".to_owned(),
        1 => "1 message waits to be sent".to_owned(),
        n => format!("{n} messages wait to be sent"),
    });
    for conversation in &status.conversations {
        let unread = match conversation.unread {
            0 => String::new(),
            n => format!("  {}", paint.cyan(&format!("{n} unread"))),
        };
        let name = paint.bold(&conversation.peer_name);
        lines.push(format!("{name}  {} messages{unread}", conversation.last_seq));
    }
    Ok(output::line(&lines.join("\n"))?)
}
