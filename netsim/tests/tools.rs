//! The command `tern-netsim` as a user meets it: what it prints, and its exit codes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, UdpSocket},
    process::{Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tern_netsim::{path::PathSettings, profile::Profile};

fn tool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tern-netsim"));
    command.args(args);
    command
}

fn run(args: &[&str]) -> Output {
    tool(args).output().unwrap()
}

fn printed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_trace_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lift.down");
    fs::write(&file, "2\n2\n3\n8\n").unwrap();
    let file = file.to_str().unwrap();
    let described: Value =
        serde_json::from_str(&printed(&["trace", file, "--json", "--parts", "2"])).unwrap();
    assert_eq!(described["file"], file);
    assert_eq!(described["mean_mbit_s"], 6.0);
    assert_eq!(described["longest_gap_s"], 0.005);
    assert_eq!(described["length_s"], 0.008);
    assert_eq!(described["opportunities"], 4);
    assert_eq!(described["mbit_s_over_time"], serde_json::json!([9.0, 3.0]));
    let text = printed(&["trace", file, file]);
    assert_eq!(text.matches("mean 6.00 Mbit/s, longest gap 0.01 s").count(), 2, "{text}");
}

#[test]
fn profiles_are_listed_and_shown_as_files() {
    let list = printed(&["profiles"]);
    let json: Vec<Value> = serde_json::from_str(&printed(&["profiles", "--json"])).unwrap();
    assert_eq!(json.len(), Profile::all().len());
    for (profile, json) in Profile::all().iter().zip(&json) {
        assert!(list.contains(profile.name));
        assert_eq!(json["name"], profile.name);
        let shown = printed(&["profiles", profile.name]);
        assert_eq!(PathSettings::parse(&shown).unwrap(), profile.path);
    }
}

/// As `head` leaves a pipe.
#[test]
fn a_reader_who_has_gone_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("lift.down");
    fs::write(&trace, "2\n2\n3\n8\n").unwrap();
    let trace = trace.to_str().unwrap();
    for args in [
        &["profiles"][..],
        &["profiles", "lte"],
        &["profiles", "--json"],
        &["trace", trace],
        &["scenarios"],
        &["fuzz", "--seeds", "1"],
        &["fuzz", "--seed", "1"],
        &["proxy", "--to", "127.0.0.1:1", "--for", "0.01"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = tool(args).stdout(writer).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
}

#[test]
fn what_is_asked_for_wrongly_ends_with_2_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let bad_path = folder.path().join("path.toml");
    fs::write(&bad_path, "[down]\ntrace = 'not-there'\n").unwrap();
    let bad_path = bad_path.to_str().unwrap();
    for (args, said) in [
        (&["profiles", "5g"][..], "no profile is called 5g"),
        (&["trace", "/nonexistent"], "can't read /nonexistent"),
        (&["proxy", "--to", "127.0.0.1:1", "--down", "delay=5"], "unknown field `delay`"),
        (&["proxy", "--to", "127.0.0.1:1", "--up", "loss=1.5"], "up: loss.probability is 1.5"),
        (&["proxy", "--to", "127.0.0.1:1", "--file", bad_path], "not-there"),
        (&["proxy", "--to", "127.0.0.1:1", "--rebind-address"], "--rebind-after"),
        (&["proxy", "--to", "127.0.0.1:1", "--rebind-every", "0"], "rebind.every_ms"),
        (&["proxy", "--to", "127.0.0.1:1", "--black-hole", "1"], "two times in seconds"),
        (&["proxy", "--to", "127.0.0.1:1", "--listen", "192.0.2.1:1"], "can't listen"),
        (&["emulate", "--profile", "rebind-port", "--", "true"], "only the proxy"),
        (&["no-such-command"], "unrecognized subcommand"),
    ] {
        let output = run(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
}

#[test]
fn the_proxy_says_where_it_is_and_at_the_end_what_it_did() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap().to_string();
    let args = ["proxy", "--to", &to, "--up", "duplicate=1", "--json"];
    let mut proxy = tool(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(proxy.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let address: SocketAddr = ready["proxy"].as_str().unwrap().parse().unwrap();

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"hello", address).unwrap();
    let mut buffer = [0; 10];
    for _ in 0..2 {
        let (len, _) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"hello");
    }
    kill_process(Pid::from_child(&proxy), Signal::TERM).unwrap();
    let mut report = String::new();
    lines.read_to_string(&mut report).unwrap();
    assert!(proxy.wait().unwrap().success());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["up"]["entered"], serde_json::json!({ "packets": 1, "bytes": 5 }));
    assert_eq!(report["up"]["delivered"], serde_json::json!({ "packets": 2, "bytes": 10 }));
    assert_eq!(report["flows"], 1);
}
