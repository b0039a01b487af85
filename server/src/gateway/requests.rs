//! Requests on the session stream and their responses.

use std::{net::SocketAddr, time::Duration};

use tern_protocol::{
    code::Code,
    frame::{
        Account, Device, Event, Presence, PresenceState, Request, RequestBody, Response,
        ResponseBody,
    },
    id::{AccountId, ConversationId, DeviceId},
};

use tokio::time::timeout;

use super::session::Session;
use crate::{directory::DirectoryError, hub};

/// When a client may ask again after the server failed, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// How long a watch waits for what other nodes say.
const WATCH: Duration = Duration::from_millis(300);

/// Answers one request. The error closes the connection.
pub(super) async fn answer(session: &Session, request: Request) -> Result<Response, Code> {
    let metrics = &session.shared.metrics;
    let body = match carry_out(session, request.body).await {
        Ok(body) => body,
        Err(error) => {
            let (code, retry_after_ms) = match error {
                DirectoryError::Refused(code) => (code, 0),
                error => (session.internal(&error), RETRY_MS),
            };
            metrics.requests_refused.count(code);
            ResponseBody::Error { code, text: code.meaning().to_owned(), retry_after_ms }
        }
    };
    metrics.requests.inc();
    Ok(Response { id: request.id, body })
}

fn refused<T>(code: Code) -> Result<T, DirectoryError> {
    Err(DirectoryError::Refused(code))
}

async fn carry_out(session: &Session, body: RequestBody) -> Result<ResponseBody, DirectoryError> {
    let shared = &session.shared;
    let directory = &shared.directory;
    match body {
        RequestBody::Ping => Ok(ResponseBody::Done),
        RequestBody::Lookup(name) => match directory.lookup(&name).await? {
            Some(account) => Ok(ResponseBody::Account(Account { account, name })),
            None => refused(Code::UnknownName),
        },
        RequestBody::Account(account) => match directory.account(account).await? {
            Some(info) => Ok(ResponseBody::Account(Account { account, name: info.name.clone() })),
            None => refused(Code::UnknownName),
        },
        RequestBody::Devices => devices(session).await,
        RequestBody::RemoveDevice(device) => {
            directory.remove_device(session.account, device).await?;
            shared.hub.close(device, Code::DeviceRemoved);
            tell_siblings(session).await?;
            if let Some(across) = &shared.across {
                across.account_changed(session.account);
            }
            Ok(ResponseBody::Done)
        }
        RequestBody::CreateLink => {
            let valid_for_ms = shared.config.registration.link_valid_for_ms;
            let expires_ms = shared.clock.now_ms() + valid_for_ms;
            let token = directory.create_link(session.account, expires_ms).await?;
            Ok(ResponseBody::Link { token, valid_for_ms })
        }
        RequestBody::SetActive(active) => {
            let now_ms = shared.clock.now_ms();
            session.inbox.set_active(active);
            shared.hub.set_active(session.account, session.device, active, now_ms);
            if active {
                // What changed while nobody looked wasn't told.
                for presence in shared.hub.watched(session.device) {
                    session.inbox.event(Event::Presence(last_seen(session, presence).await?));
                }
            }
            Ok(ResponseBody::Done)
        }
        RequestBody::Watch(accounts) => watch(session, accounts).await,
        RequestBody::Unwatch(accounts) => {
            for account in accounts {
                shared.hub.unwatch(session.device, account);
            }
            Ok(ResponseBody::Done)
        }
        RequestBody::Address => {
            let address = session.connection.remote_address();
            // A socket for both families shows IPv4 within IPv6.
            let ip = address.ip().to_canonical();
            Ok(ResponseBody::Address(SocketAddr::new(ip, address.port())))
        }
        RequestBody::Unknown(_) => refused(Code::UnknownRequest),
    }
}

async fn devices(session: &Session) -> Result<ResponseBody, DirectoryError> {
    let shared = &session.shared;
    let Some(info) = shared.directory.account(session.account).await? else {
        return refused(Code::UnknownDevice);
    };
    let mut devices = Vec::with_capacity(info.devices.len());
    for device in &info.devices {
        let online = is_connected(session, device.device).await;
        devices.push(Device {
            device: device.device,
            label: device.label.clone(),
            created_ms: device.created_ms,
            last_seen_ms: match online {
                true => shared.clock.now_ms(),
                false => shared.directory.last_seen_ms(device.device).await?,
            },
            online,
        });
    }
    Ok(ResponseBody::Devices(devices))
}

async fn is_connected(session: &Session, device: DeviceId) -> bool {
    let shared = &session.shared;
    if shared.hub.is_connected(device) {
        return true;
    }
    match &shared.across {
        None => false,
        Some(across) => across.is_connected(device).await.unwrap_or_else(|error| {
            tracing::warn!(%error, %device, "it isn't known whether a device is connected");
            false
        }),
    }
}

async fn tell_siblings(session: &Session) -> Result<(), DirectoryError> {
    if let Some(info) = session.shared.directory.account(session.account).await? {
        let others = info.devices.iter().map(|info| info.device);
        for device in others.filter(|&device: &DeviceId| device != session.device) {
            session.shared.hub.event(device, Event::DevicesChanged);
        }
    }
    Ok(())
}

async fn watch(
    session: &Session,
    accounts: Vec<AccountId>,
) -> Result<ResponseBody, DirectoryError> {
    let shared = &session.shared;
    let most = usize::from(session.limits.watches);
    let mut all = Vec::with_capacity(accounts.len());
    let mut watched = Vec::with_capacity(accounts.len());
    for account in accounts {
        if !share_a_conversation(session, account).await? {
            all.push(hub::unknown(account));
            continue;
        }
        if !shared.hub.watch(session.device, account, most) {
            return refused(Code::TooMany);
        }
        watched.push(account);
    }
    // What other nodes say comes as an event if it comes later.
    let _ = timeout(WATCH, shared.hub.known(&watched)).await;
    for account in watched {
        all.push(last_seen(session, shared.hub.presence(account)).await?);
    }
    Ok(ResponseBody::Presence(all))
}

/// Whether the session's account has talked with another, by [TERN-8.2-2].
async fn share_a_conversation(session: &Session, other: AccountId) -> Result<bool, DirectoryError> {
    let Some(conversation) = ConversationId::direct(session.account, other) else {
        return Ok(true);
    };
    match session.shared.owners.members(conversation).await {
        Ok(members) => Ok(members.is_some()),
        Err(_) => refused(Code::Internal),
    }
}

/// Fills in when an account was last seen if that was before this node knew of it.
async fn last_seen(session: &Session, presence: Presence) -> Result<Presence, DirectoryError> {
    if presence.state != PresenceState::Offline || presence.last_seen_ms > 0 {
        return Ok(presence);
    }
    let directory = &session.shared.directory;
    let mut last_seen_ms = 0;
    if let Some(info) = directory.account(presence.account).await? {
        for device in &info.devices {
            last_seen_ms = last_seen_ms.max(directory.last_seen_ms(device.device).await?);
        }
    }
    Ok(Presence { last_seen_ms, ..presence })
}
