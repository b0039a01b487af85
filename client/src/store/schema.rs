//! The tables, and how an older file is brought up to date.

use rusqlite::Connection;

use super::{Result, StoreError};

/// Each entry brings a file from the version that is its index to the next one. Entries are only ever
/// added: a file in the field was made by some prefix of this list.
const MIGRATIONS: &[&str] = &["
    -- The one row says who this device is. Account and device are null until the server's welcome
    -- was stored; the seed of the key is stored before it is used, so that a registration whose
    -- answer was lost is repeated with the same key.
    CREATE TABLE identity (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        server TEXT NOT NULL,
        server_name TEXT,
        ca_pem TEXT NOT NULL,
        name TEXT NOT NULL,
        label TEXT NOT NULL,
        seed BLOB NOT NULL,
        account INTEGER,
        device INTEGER,
        ticket BLOB,
        ticket_until_ms INTEGER NOT NULL DEFAULT 0,
        last_connected_ms INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    -- Names of accounts. A name belongs to one account for ever, so this never goes stale.
    CREATE TABLE account (
        account INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;

    -- position: everything up to here is stored; null: nothing has come yet.
    -- revision: receipts up to here are stored.
    -- read_wanted: the user has read up to here; read_known: the server has said so.
    -- next_counter: counters below it are given out.
    CREATE TABLE conversation (
        id BLOB PRIMARY KEY,
        peer INTEGER NOT NULL,
        position INTEGER,
        revision INTEGER NOT NULL DEFAULT 0,
        read_wanted INTEGER NOT NULL DEFAULT 0,
        read_known INTEGER NOT NULL DEFAULT 0,
        next_counter INTEGER NOT NULL DEFAULT 1
    ) STRICT, WITHOUT ROWID;

    -- state: 0 received, 1 waiting to be accepted, 2 accepted, 3 failed.
    -- conversation is null while to_name waits to be looked up.
    -- counter: set once the message may have been sent; the counters of a conversation's waiting
    -- messages are dense and end at next_counter - 1.
    CREATE TABLE message (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation BLOB,
        to_name TEXT,
        seq INTEGER,
        counter INTEGER,
        message_id INTEGER NOT NULL,
        account INTEGER NOT NULL,
        device INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        envelope BLOB NOT NULL,
        state INTEGER NOT NULL,
        failure INTEGER,
        shown INTEGER NOT NULL DEFAULT 1,
        CHECK ((conversation IS NULL) <> (to_name IS NULL))
    ) STRICT;
    CREATE UNIQUE INDEX message_seq ON message (conversation, seq) WHERE seq IS NOT NULL;
    CREATE INDEX message_unnumbered ON message (conversation, id) WHERE seq IS NULL;
    -- In the order in which messages go up: by counter, and what has none behind it.
    CREATE INDEX message_waiting ON message
        (conversation, COALESCE(counter, 9223372036854775807), id) WHERE state = 1;
    CREATE INDEX message_to_name ON message (to_name) WHERE to_name IS NOT NULL;
    CREATE INDEX message_hidden ON message (id) WHERE shown = 0;

    CREATE TABLE receipt (
        conversation BLOB NOT NULL,
        account INTEGER NOT NULL,
        delivered INTEGER NOT NULL,
        read INTEGER NOT NULL,
        PRIMARY KEY (conversation, account)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE expired (
        conversation BLOB NOT NULL,
        account INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (conversation, account, first)
    ) STRICT, WITHOUT ROWID;
"];

/// Brings the file to the newest version, one version per transaction.
pub(super) fn migrate(connection: &Connection) -> Result<()> {
    migrate_with(connection, MIGRATIONS)
}

fn migrate_with(connection: &Connection, migrations: &[&str]) -> Result<()> {
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (version, migration) in (1..).zip(migrations) {
        if version > found {
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {migration}; PRAGMA user_version = {version}; COMMIT;"
            ))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_brought_up_to_date_once_and_a_newer_one_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        let steps = ["CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y"];
        migrate_with(&connection, &steps[..1]).unwrap();
        migrate_with(&connection, &steps).unwrap();
        migrate_with(&connection, &steps).unwrap();
        connection.execute("INSERT INTO a (x, y) VALUES (1, 2)", []).unwrap();
        assert!(matches!(
            migrate_with(&connection, &steps[..1]),
            Err(StoreError::Newer { found: 2, known: 1 })
        ));
    }
}
