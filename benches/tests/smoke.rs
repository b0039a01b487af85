//! Each run with tiny numbers against a real server: that it runs to its end and finds its figures,
//! not what they are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::Duration,
};

use tern_benches::{
    Report, html,
    machine::Machine,
    outcome::{Outcome, Repeated},
    progress::Progress,
    runs::{Common, drain, idle, latency, sign_ins, throughput},
    server::ServerSettings,
    text,
};

/// The server's program, of this build.
///
/// Cargo doesn't build other packages' programs for a test. It is asked to, in the same way in which it
/// has built the whole workspace's tests, so that it compiles no dependency a second time.
static SERVER: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells a test of its package would make the build scripts of others run anew (ring's
    // looks at it), and their dependants with them.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&*name);
        }
    }
    let built = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--workspace", "--bin", "tern-server", "--test", "smoke", "--quiet"])
        .arg("--target-dir")
        .arg(target)
        .status()
        .expect("cargo can be run");
    assert!(built.success(), "cargo builds the server");
    target.join("debug").join("tern-server")
});

fn common() -> Common {
    let server = ServerSettings {
        binary: SERVER.clone(),
        dir: env!("CARGO_TARGET_TMPDIR").into(),
        set: vec!["listen.stream_idle_for_ms=1000".into()],
    };
    Common { server, sockets: 2, payload_bytes: 200, progress: Progress::Quiet }
}

fn assert_finds(outcome: &Outcome, keys: &[&str]) {
    for key in keys {
        let value = outcome.get(key).unwrap_or_else(|| panic!("{key} is missing"));
        assert!(value.is_finite() && value >= 0.0, "{key} is {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn throughput_is_measured() {
    let settings = throughput::Settings {
        pairs: 3,
        window: 8,
        duration: Duration::from_millis(500),
        warm_up: Duration::from_millis(100),
    };
    let outcome = throughput::run(&common(), &settings).await.unwrap();
    assert_finds(&outcome, &["accepted_per_s", "delivered_per_s", "server_cpu_us"]);
    assert!(outcome.get("accepted_per_s").unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_is_measured_and_reported() {
    let settings = latency::Settings {
        rate_per_s: 100,
        pairs: 5,
        duration: Duration::from_millis(600),
        warm_up: Duration::from_millis(200),
    };
    let common = common();
    let outcome = latency::run(&common, &settings).await.unwrap();
    assert_finds(&outcome, &["p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms", "sent_p99_ms"]);
    assert!(outcome.get("p50_ms").unwrap() <= outcome.get("max_ms").unwrap());

    let machine = Machine::look(&common.server).unwrap();
    let warnings = machine.warnings();
    let runs = vec![Repeated::of(&[outcome]).unwrap()];
    let report = Report { machine, warnings, runs };
    assert!(text::report(&report).contains("send to delivery, p99.9"));
    let html = html::page(&report);
    assert!(html.contains("<polyline") && html.contains("fdatasync"));
    assert!(serde_json::to_string(&report).unwrap().contains("\"p99_ms\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_is_drained() {
    let settings = drain::Settings { messages: 300, conversations: 3, restart: true };
    let outcome = drain::run(&common(), &settings).await.unwrap();
    assert_finds(&outcome, &["drain_s", "drained_per_s", "filled_per_s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_weighed() {
    let settings = idle::Settings {
        connections: 10,
        settle: Duration::from_millis(200),
        wait_for_streams: true,
    };
    let outcome = idle::run(&common(), &settings).await.unwrap();
    assert_finds(&outcome, &["idle_kib", "streams_open_kib", "streams_closed_kib"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_ins_are_counted() {
    let settings = sign_ins::Settings { devices: 4, duration: Duration::from_millis(500) };
    let outcome = sign_ins::run(&common(), &settings).await.unwrap();
    assert_finds(&outcome, &["full_per_s", "ticket_per_s", "early_per_s", "early_share"]);
    assert!(outcome.get("early_share").unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_start_says_why() {
    let mut common = common();
    common.server.set.push("limits.watches=none".into());
    let settings = drain::Settings { messages: 1, conversations: 1, restart: false };
    let error = drain::run(&common, &settings).await.unwrap_err().to_string();
    assert!(error.contains("limits.watches"), "{error}");
}
