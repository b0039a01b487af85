//! What lies in `server/deploy` fits the server: metrics that dashboard and alerts name, settings, certificates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests may panic, and say when they check nothing"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tern_protocol::code::Code;
use tern_server::{
    clock::Clock,
    cluster::links::{PeerTls, PeerTlsError},
    config::{self, Config, Flags},
    metrics::Metrics,
    tls::Certificates,
};

const DASHBOARD: &str = "grafana/dashboards/tern.json";
const ALERTS: &str = "prometheus/alerts.yml";

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(deploy(file)).unwrap()
}

/// What `/metrics` shows when everything that can be counted has been.
fn shown() -> String {
    let metrics = Metrics::new();
    // A family without a member isn't shown.
    for family in [
        &metrics.closed,
        &metrics.closed_by_clients,
        &metrics.streams_reset,
        &metrics.frames_refused,
        &metrics.hellos_rejected,
        &metrics.requests_refused,
        &metrics.sends_refused,
    ] {
        family.count(Code::MailboxFull);
    }
    metrics.shard_queue(0).set(0);
    metrics.render()
}

/// The words of a text that begin so. A word is what may be a name in PromQL or in a shell.
fn words<'a>(text: &'a str, begin: &'static str) -> impl Iterator<Item = &'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(move |word| word.starts_with(begin))
}

#[test]
fn every_metric_that_dashboard_and_alerts_name_is_there() {
    let shown = shown();
    let exposed: BTreeSet<&str> = shown
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    for (file, least) in [(DASHBOARD, 30), (ALERTS, 8)] {
        let text = read(file);
        let named: BTreeSet<&str> = words(&text, "tern_").collect();
        assert!(named.len() >= least, "{file} names {named:?}");
        let wrong: Vec<_> = named.difference(&exposed).collect();
        assert!(wrong.is_empty(), "{file} names {wrong:?}; there are {exposed:?}");
    }
}

/// The texts in which a label is compared, `label="one|other"` giving two.
fn compared<'a>(text: &'a str, label: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(label)
        .filter_map(move |(at, _)| {
            let rest = text[at + label.len()..].trim_start_matches(['=', '~', '!']);
            Some(rest.strip_prefix('"')?.split_once('"')?.0.split('|'))
        })
        .flatten()
}

#[test]
fn every_limit_that_an_alert_names_is_there() {
    let shown = shown();
    let alerts = read(ALERTS);
    let limits: Vec<_> = compared(&alerts, "limit").collect();
    assert!(!limits.is_empty());
    for limit in limits {
        assert!(shown.contains(&format!("{{limit=\"{limit}\"}}")), "{limit} isn't a limit");
    }
}

#[test]
fn every_panel_asks_for_something() {
    let dashboard: serde_json::Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have an id: {panel}");
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            assert!(words(expression, "tern_").next().is_some(), "{expression}");
            let [open, close] =
                [['(', '{', '['], [')', '}', ']']].map(|s| expression.matches(s).count());
            assert_eq!(open, close, "{expression}");
        }
    }
}

/// Whether the server has this section. One that another change brings is checked from then on.
fn is_section(section: &str) -> bool {
    Config::default().sections().iter().any(|(name, _)| *name == section)
}

/// Section and setting of `TERN_SECTION__NAME`; `None` for variables that are no setting.
fn setting(variable: &str) -> Option<(String, String)> {
    let (section, name) = variable.strip_prefix("TERN_")?.split_once("__")?;
    Some((section.to_ascii_lowercase(), name.to_ascii_lowercase()))
}

#[test]
fn every_setting_that_is_named_is_one() {
    let config = Config::default();
    let sections: BTreeMap<_, _> = config.sections().into_iter().collect();
    for file in ["compose.yaml", "Dockerfile", "README.md"] {
        let text = read(file);
        let named: BTreeSet<_> = words(&text, "TERN_").filter_map(setting).collect();
        assert!(!named.is_empty(), "{file}");
        for (section, name) in named {
            if section == "cluster" && !is_section("cluster") {
                continue;
            }
            let settings = sections.get(section.as_str()).map(|section| section.settings());
            let is_one = settings.is_some_and(|settings| settings.iter().any(|s| s.name == name));
            assert!(is_one, "{file} names {section}.{name}");
        }
    }
}

/// A value of Compose's: `${NAME:-default}` is the default.
fn interpolated(value: &str) -> String {
    let value = value.trim().trim_matches('"');
    match value.split_once("${") {
        None => value.to_owned(),
        Some((before, rest)) => {
            let (variable, after) = rest.split_once('}').unwrap();
            let (_, default) = variable.split_once(":-").unwrap();
            format!("{before}{default}{after}")
        }
    }
}

#[test]
fn the_nodes_settings_are_good() {
    let compose = read("compose.yaml");
    let lines = compose.lines().filter_map(|line| line.trim().split_once(": "));
    // What all nodes have, and what is each one's own, of which the last node's is left.
    let environment: BTreeMap<OsString, OsString> = lines
        .filter(|(name, _)| {
            setting(name).is_some_and(|(section, _)| section != "cluster" || is_section("cluster"))
        })
        .map(|(name, value)| (name.into(), interpolated(value).into()))
        .collect();
    let config = config::load(&Flags::default(), environment).unwrap();
    assert_eq!(config.store.pd, ["pd1:2379", "pd2:2379", "pd3:2379"]);
    assert_eq!(config.admin.address.port(), 7778);
    assert!(read("prometheus/prometheus.yml").contains("\"tern3:7778\""));
}

#[test]
fn the_certificates_that_are_made_are_good() {
    let dir = tempfile::tempdir().unwrap();
    if let Err(error) = Command::new("openssl").arg("version").output() {
        eprintln!("SKIPPED: no certificates are made, since `openssl` can't be run: {error}");
        return;
    }
    let mut make = Command::new(deploy("make-certs"));
    make.arg("-d").arg(dir.path()).args(["-n", "one two", "-c", "chat.example 192.0.2.7"]);
    let made = make.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = |name: &str| dir.path().join(name);
    let certificate = |name: &str| CertificateDer::from_pem_file(file(name)).unwrap();
    let open = |certificate: &str, name: &str| {
        let (cert, key) =
            (file(&format!("{certificate}.pem")), file(&format!("{certificate}.key")));
        PeerTls::open(&file("cluster-ca.pem"), &cert, &key, name, Clock::system())
    };

    open("one", "one").unwrap();
    open("two", "two").unwrap();
    assert!(matches!(open("two", "one"), Err(PeerTlsError::Name(_))));

    // Each node is a client and a server to the other, and neither is good for the other's name.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = |authority: &str| {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(authority)).unwrap();
        Arc::new(roots)
    };
    let servers = |authority: &str| {
        WebPkiServerVerifier::builder_with_provider(roots(authority), provider.clone())
            .build()
            .unwrap()
    };
    let is_server = |authority: &str, leaf: &str, name: &'static str| {
        let name = ServerName::try_from(name).unwrap();
        let leaf = certificate(leaf);
        servers(authority).verify_server_cert(&leaf, &[], &name, &[], UnixTime::now()).is_ok()
    };
    assert!(is_server("cluster-ca.pem", "one.pem", "one"));
    assert!(!is_server("cluster-ca.pem", "one.pem", "two"));
    let clients =
        WebPkiClientVerifier::builder_with_provider(roots("cluster-ca.pem"), provider.clone())
            .build()
            .unwrap();
    let is_client =
        |leaf: &str| clients.verify_client_cert(&certificate(leaf), &[], UnixTime::now()).is_ok();
    assert!(is_client("one.pem"));

    for name in ["localhost", "127.0.0.1", "chat.example", "192.0.2.7"] {
        assert!(is_server("clients-ca.pem", "clients.pem", name), "{name}");
    }
    assert!(!is_server("cluster-ca.pem", "clients.pem", "localhost"), "a server is no node");
    assert!(!is_client("clients.pem"), "a server is no node");
    let mut config = Config::default();
    config.tls.cert_file = Some(file("clients.pem"));
    config.tls.key_file = Some(file("clients.key"));
    Certificates::open(&config, Clock::system()).unwrap();

    // What is there stays: whoever trusts the authority needn't be told of another one.
    let before = fs::read(file("cluster-ca.pem")).unwrap();
    assert!(make.output().unwrap().status.success());
    assert_eq!(fs::read(file("cluster-ca.pem")).unwrap(), before);
}
