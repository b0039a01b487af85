//! The contract of the two commands, with real processes: what other tools rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

#[path = "commands/administration.rs"]
mod administration;
#[path = "commands/devices.rs"]
mod devices;
#[path = "commands/messages.rs"]
mod messages;

use std::path::Path;

use serde_json::Value;

use crate::support::{server::Server, tern::Tern};

/// A server and two accounts.
struct Scene {
    server: Server,
    ann: Tern,
    bob: Tern,
    folder: tempfile::TempDir,
}

impl Scene {
    fn set() -> Self {
        Self::set_with(&["--admin", "off"])
    }

    fn set_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start_with(folder.path(), flags);
        let home = |name: &str| folder.path().join(name);
        let ann = Tern::register(&server, &home("ann"), "ann");
        let bob = Tern::register(&server, &home("bob"), "bob");
        Self { server, ann, bob, folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The messages among printed objects: from whom, and what.
fn messages(lines: &[Value]) -> Vec<(String, String)> {
    let messages = lines.iter().filter(|line| line["event"] == "message");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    messages.map(|line| (text(&line["from"]), text(&line["text"]))).collect()
}

fn message(from: &str, text: &str) -> (String, String) {
    (from.to_owned(), text.to_owned())
}
