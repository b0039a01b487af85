use std::sync::atomic::{AtomicBool, Ordering};

use tern_protocol::frame::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
};

use super::*;
use crate::{invites, test_store::MapStore};

struct Running {
    address: SocketAddr,
    store: Arc<MapStore>,
    well: Arc<AtomicBool>,
    clock: Clock,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

async fn start(with_invites: bool) -> Running {
    let store = Arc::new(MapStore::default());
    let well = Arc::new(AtomicBool::new(true));
    let clock = Clock::starting_at(1_000);
    let probe = |name: &'static str| -> Probe {
        let well = well.clone();
        Box::new(move || match well.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(format!("{name} no more")),
        })
    };
    let desk = Desk {
        metrics: Arc::new(Metrics::new()),
        healthy: probe("healthy"),
        ready: probe("ready"),
        invites: with_invites.then(|| InviteMaker {
            store: store.clone(),
            random: Random::seeded(1),
            clock,
            valid_for_ms: 5_000,
        }),
    };
    let settings =
        config::Admin { address: "127.0.0.1:0".parse().unwrap(), ..config::Admin::default() };
    let admin = Admin::bind(&settings, desk).await.unwrap();
    let address = admin.address();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(admin.serve(async move {
        let _ = stopped.await;
    }));
    Running { address, store, well, clock, stop: Some(stop), task }
}

impl Running {
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Status and body.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let answer = self
            .raw(&format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

#[tokio::test]
async fn metrics_are_shown() {
    let running = start(false).await;
    let (status, body) = running.ask("GET", "/metrics", "", "").await;
    assert_eq!(status, 200);
    assert!(body.contains("tern_connections 0"), "{body}");
    assert!(body.ends_with("# EOF\n"));
    let answer = running.raw("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.contains("application/openmetrics-text"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "no body for HEAD");
}

#[tokio::test]
async fn health_and_readiness_follow_their_probes() {
    let running = start(false).await;
    for (path, reason) in [("/healthz", "healthy no more\n"), ("/readyz", "ready no more\n")] {
        running.well.store(true, Ordering::SeqCst);
        assert_eq!(running.ask("GET", path, "", "").await, (200, "ok\n".to_owned()));
        running.well.store(false, Ordering::SeqCst);
        assert_eq!(running.ask("GET", path, "", "").await, (503, reason.to_owned()));
    }
}

#[tokio::test]
async fn an_invite_that_was_made_can_be_spent_as_long_as_it_says() {
    let running = start(true).await;
    for (body, valid_for_ms) in [("", 5_000), ("{}", 5_000), ("{\"valid_for_ms\": 77}", 77)] {
        let before_ms = running.clock.now_ms();
        let (status, answer) = running.ask("POST", "/invites", "", body).await;
        assert_eq!(status, 201, "{answer}");
        let made: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(made["valid_for_ms"], valid_for_ms);
        let expires_ms = made["expires_ms"].as_u64().unwrap();
        assert!(expires_ms >= before_ms + valid_for_ms);
        let token = Secret::new(made["token"].as_str().unwrap());
        let at = |ms| invites::find(running.store.as_ref(), &token, ms);
        assert!(at(expires_ms - 1).await.unwrap().is_some());
        assert!(at(expires_ms).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn invites_are_refused_where_they_must_be() {
    let running = start(true).await;
    let long = format!("{{\"valid_for_ms\": 1{}}}", " ".repeat(2_000));
    for (headers, body, status) in [
        ("Origin: https://evil.example\r\n", "", 403),
        ("", "nonsense", 400),
        ("", "{\"valid_for_ms\": 0}", 400),
        ("", "{\"valid_for_ms\": 31536000001}", 400),
        ("", "{\"valid_for\": 1}", 400),
        ("", long.as_str(), 413),
    ] {
        let answer = running.ask("POST", "/invites", headers, body).await;
        assert_eq!(answer.0, status, "{}", answer.1);
    }
    running.store.fail(true);
    assert_eq!(running.ask("POST", "/invites", "", "").await.0, 503);
    assert_eq!(running.store.len(), 0);
    let without = start(false).await;
    let (status, reason) = without.ask("POST", "/invites", "", "").await;
    assert_eq!(status, 409);
    assert!(reason.contains("registration.policy"), "{reason}");
}

#[tokio::test]
async fn other_requests_are_told_what_there_is() {
    let running = start(true).await;
    let (status, body) = running.ask("GET", "/", "", "").await;
    assert_eq!(status, 404);
    assert!(body.contains("GET /metrics"), "{body}");
    assert_eq!(running.ask("POST", "/metrics", "", "").await.0, 405);
    assert_eq!(running.ask("GET", "/invites", "", "").await.0, 405);
}

#[tokio::test]
async fn requests_are_bounded() {
    let running = start(true).await;
    let head = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_BYTES));
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(running.ask("GET", "/healthz", "", "").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_dropped() {
    let running = start(true).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /metrics HT").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn stopping_ends_it() {
    let mut running = start(true).await;
    drop(running.stop.take());
    running.task.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let running = start(true).await;
    let settings = config::Admin { address: running.address, ..config::Admin::default() };
    let desk = Desk {
        metrics: Arc::new(Metrics::new()),
        healthy: Box::new(|| Ok(())),
        ready: Box::new(|| Ok(())),
        invites: None,
    };
    let Err(error) = Admin::bind(&settings, desk).await else {
        panic!("two servers on one address");
    };
    assert!(error.to_string().contains(&running.address.to_string()));
}
