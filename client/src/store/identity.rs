//! The identity's row.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::{
    frame::Secret,
    id::{AccountId, DeviceId},
};
use zeroize::Zeroizing;

use super::{Result, StoreError, bits_id, id_bits, number, unsigned};
use crate::identity::{DeviceKey, Server, StoredIdentity};

/// Who this device is, if it has begun to be anybody.
pub(crate) fn load(connection: &Connection) -> Result<Option<StoredIdentity>> {
    let row = connection
        .query_row(
            "SELECT server, server_name, ca_pem, name, label, seed, account, device, ticket,
                    ticket_until_ms, last_connected_ms FROM identity",
            [],
            |row| {
                Ok((
                    Server { address: row.get(0)?, name: row.get(1)?, ca_pem: row.get(2)? },
                    row.get::<_, String>(3)?,
                    row.get::<_, String>(4)?,
                    Zeroizing::new(row.get::<_, [u8; 32]>(5)?),
                    row.get::<_, Option<i64>>(6)?,
                    row.get::<_, Option<i64>>(7)?,
                    row.get::<_, Option<Vec<u8>>>(8)?.map(Secret::new),
                    unsigned(row.get(9)?),
                    unsigned(row.get(10)?),
                ))
            },
        )
        .optional()?;
    let Some((server, name, label, seed, account, device, ticket, until_ms, last_ms)) = row else {
        return Ok(None);
    };
    let ids = match (account, device) {
        (Some(account), Some(device)) => {
            AccountId::new(bits_id(account)).zip(DeviceId::new(bits_id(device)))
        }
        _ => None,
    };
    Ok(Some(StoredIdentity {
        server,
        name,
        label,
        key: Arc::new(
            DeviceKey::from_seed(seed).ok_or(StoreError::Inconsistent("the device key"))?,
        ),
        ids,
        ticket,
        ticket_until_ms: until_ms,
        last_connected_ms: last_ms,
    }))
}

/// Stores who the device is going to be, before it asks the server.
pub(crate) fn begin(
    connection: &Connection,
    server: &Server,
    name: &str,
    label: &str,
    key: &DeviceKey,
) -> Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO identity (id, server, server_name, ca_pem, name, label, seed)
         VALUES (1, ?, ?, ?, ?, ?, ?)",
        params![server.address, server.name, server.ca_pem, name, label, &key.seed()[..]],
    )?;
    Ok(())
}

/// Stores what a welcome said: ids and the next ticket.
pub(crate) fn welcomed(
    connection: &Connection,
    account: AccountId,
    device: DeviceId,
    name: &str,
    ticket: &Secret,
    ticket_until_ms: u64,
    now_ms: u64,
) -> Result<()> {
    connection.execute(
        "UPDATE identity SET account = ?, device = ?, name = ?, ticket = ?, ticket_until_ms = ?,
                last_connected_ms = ?",
        params![
            id_bits(account.get()),
            id_bits(device.get()),
            name,
            ticket.expose(),
            number(ticket_until_ms),
            number(now_ms),
        ],
    )?;
    super::conversations::remember_account(connection, account, name)
}

/// Forgets a ticket that the server doesn't take any more.
pub(crate) fn forget_ticket(connection: &Connection) -> Result<()> {
    connection.execute("UPDATE identity SET ticket = NULL, ticket_until_ms = 0", [])?;
    Ok(())
}

/// Stores where the server is now, or what proves it; what is `None` stays.
pub(crate) fn move_server(
    connection: &Connection,
    address: Option<&str>,
    name: Option<&str>,
    ca_pem: Option<&str>,
) -> Result<()> {
    connection.execute(
        "UPDATE identity SET server = COALESCE(?, server), server_name = COALESCE(?, server_name),
                ca_pem = COALESCE(?, ca_pem)",
        params![address, name, ca_pem],
    )?;
    Ok(())
}
