//! What an operator does: start, configure, invite, stop.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Output},
};

use serde_json::Value;

use super::{Scene, message, messages};
use crate::support::{
    binaries::binaries,
    server::{Server, without_settings},
    tern::Tern,
};

fn server(args: &[&str]) -> Output {
    let mut command = Command::new(&binaries().server);
    without_settings(&mut command);
    command.args(args).output().unwrap()
}

#[test]
fn port_0_picks_a_port_and_both_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_anywhere(folder.path(), &["--admin", "127.0.0.1:0"]);
    assert_ne!(server.address().port(), 0);
    let admin = server.line();
    let address = admin.strip_prefix("admin on ").unwrap_or_else(|| panic!("{admin}"));
    assert!(ask(address, "GET", "/healthz").starts_with("HTTP/1.1 200"));
    assert!(ask(address, "GET", "/readyz").starts_with("HTTP/1.1 200"));
    assert!(ask(address, "GET", "/metrics").contains("tern_"));
    Tern::register(&server, &folder.path().join("ann"), "ann");
}

/// An HTTP request; answers all of the response.
fn ask(address: &str, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn an_invite_lets_one_account_in() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--admin", "127.0.0.1:0", "--set", "registration.policy=invite"];
    let mut server = Server::start_with(folder.path(), &flags);
    let admin = server.line();
    let address = admin.strip_prefix("admin on ").unwrap_or_else(|| panic!("{admin}"));
    let ann = Tern::new(&folder.path().join("ann"));
    let uninvited = ann.try_register(&server, "ann", &[]);
    assert_eq!(uninvited.code, Some(1), "{uninvited:?}");
    let forged = ann.try_register(&server, "ann", &["--invite", "forged"]);
    assert_eq!(forged.code, Some(1), "{forged:?}");

    let response = ask(address, "POST", "/invites");
    let body = response.split("\r\n\r\n").nth(1).unwrap();
    let token: Value = serde_json::from_str::<Value>(body).unwrap()["token"].clone();
    let invite = ["--invite", token.as_str().unwrap()];
    ann.try_register(&server, "ann", &invite).good();
    let used = Tern::new(&folder.path().join("bob")).try_register(&server, "bob", &invite);
    assert_eq!(used.code, Some(1), "{used:?}");
}

#[test]
fn a_server_that_is_told_to_stop_loses_nothing() {
    let mut scene = Scene::set_with(&["--admin", "off", "--set", "drain.within_ms=500"]);
    let mut listening = scene.bob.start(&["listen", "--json"]);
    listening.until(|line| line["state"] == "connected");
    let texts: Vec<_> = (0..5).map(|number| format!("message {number}")).collect();
    for text in &texts[..3] {
        scene.ann.run(&["send", "bob", text]).good();
    }
    listening.until(|line| line["text"] == "message 2");
    listening.process.kill();
    for text in &texts[3..] {
        scene.ann.run(&["send", "bob", text]).good();
    }
    let ann = scene.ann.start(&["listen", "--json"]);
    scene.server.process().terminate();
    let status = scene.server.process().wait("the end of the server");
    assert_eq!(status.code(), Some(0));
    drop(ann);

    scene.server.restart();
    scene.server.until_ready();
    let heard = scene.bob.run(&["listen", "--json", "--count", "2", "--timeout", "60"]).lines();
    let heard = messages(&heard);
    // The third was printed, and may not have been confirmed.
    let heard = heard.iter().filter(|(_, text)| *text != "message 2").cloned().collect::<Vec<_>>();
    assert_eq!(heard[0], message("ann", "message 3"));
}

#[test]
fn bad_settings_are_named() {
    for (args, key) in [
        (vec!["--set", "limits.watches=0"], "limits.watches"),
        (vec!["--set", "limits.watches=many"], "limits.watches"),
        (vec!["--set", "limits.wotches=1"], "limits.wotches"),
        (vec!["--set", "registration.policy=friends"], "registration.policy"),
        (vec!["--set", "watches"], "watches"),
        (vec!["--listen", "nowhere"], "--listen"),
    ] {
        let output = server(&[&args[..], &["--check-config"]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}");
        assert!(said.contains(key), "{args:?}: {said}");
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tern.toml");
    fs::write(&file, "[drain]\nwithin_ms = -1\n[limits]\nwatches = 300\n").unwrap();
    let file = file.to_str().unwrap();
    let output = server(&["--config", file]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("drain.within_ms") && said.contains(file), "{said}");
    assert!(!said.contains("watches"), "{said}");

    let mut command = Command::new(&binaries().server);
    without_settings(&mut command);
    let output = command.env("TERN_LIMITS__WATCHES", "0").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("limits.watches") && said.contains("TERN_LIMITS__WATCHES"), "{said}");
}
