//! HTTP for the operator: metrics, health, invites.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /metrics` | everything that is counted, in the text format of OpenMetrics |
//! | `GET /healthz` | 200 while the process does its work, 503 and the reason when it can't: restart it |
//! | `GET /readyz` | 200 while it takes clients, 503 while it starts or stops, or a node of a cluster is suspended: send them elsewhere |
//! | `POST /invites` | makes an invite, under the policy `invite`: `{"token":…,"valid_for_ms":…,"expires_ms":…}`; a body `{"valid_for_ms":…}` says for how long |
//!
//! It is plain HTTP without a password: whoever reaches it can read the metrics (no names, no
//! messages, but how much goes on) and make invites. So it listens on loopback unless told otherwise,
//! and doesn't answer what a browser sends for another site. To reach it from elsewhere, put it into
//! a private network or behind a proxy that asks who is there.

mod routes;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, fmt, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{clock::Clock, config, metrics::Metrics, random::Random, store::Store};

/// Time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole connection, which is one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Room for a request's head, in bytes.
const HEAD_BYTES: usize = 8_192;
/// Headers of a request.
const HEADERS: usize = 64;
/// Pause after a connection couldn't be taken, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Asks whether something is well; the error says why not.
pub type Probe = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the admin address tells and does.
pub struct Desk {
    /// Shown at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Whether the process does its work and the store is well: `/healthz`.
    pub healthy: Probe,
    /// Whether clients are taken: `/readyz`.
    pub ready: Probe,
    /// Makes invites, if that is the registration policy.
    pub invites: Option<InviteMaker>,
}

/// What it takes to make invites.
pub struct InviteMaker {
    /// Where they are kept.
    pub store: Arc<dyn Store>,
    /// What they are made of.
    pub random: Random,
    /// What they end by.
    pub clock: Clock,
    /// How long they are valid unless the request says otherwise, in milliseconds.
    pub valid_for_ms: u64,
}

/// The admin address can't be had.
#[derive(Debug)]
#[non_exhaustive]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "admin.address {}: {}", self.address, self.source)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A bound admin address.
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    connections: Arc<Semaphore>,
    desk: Arc<Desk>,
}

impl Admin {
    /// Binds the configured address.
    pub async fn bind(settings: &config::Admin, desk: Desk) -> Result<Self, BindError> {
        let failed = |source| BindError { address: settings.address, source };
        let listener = TcpListener::bind(settings.address).await.map_err(failed)?;
        Ok(Self {
            address: listener.local_addr().map_err(failed)?,
            listener,
            connections: Arc::new(Semaphore::new(settings.connections as usize)),
            desk: Arc::new(desk),
        })
    }

    /// The address, with the port that was picked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is there, and then what was asked before.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut answering = JoinSet::new();
        loop {
            tokio::select! {
                () = &mut stop => break,
                (stream, permit) = self.next() => {
                    answering.spawn(answer(stream, permit, self.desk.clone()));
                }
                Some(_) = answering.join_next() => {}
            }
        }
        // Each has a time-out of its own.
        while answering.join_next().await.is_some() {}
    }

    /// The next connection, once there is room for one.
    async fn next(&self) -> (TcpStream, Option<OwnedSemaphorePermit>) {
        // It is never closed, so there always is a permit.
        let permit = self.connections.clone().acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, permit),
                Err(error) => {
                    tracing::debug!(%error, "an admin connection can't be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn answer(stream: TcpStream, permit: Option<OwnedSemaphorePermit>, desk: Arc<Desk>) {
    let service =
        service_fn(|request| async { Ok::<_, Infallible>(routes::route(&desk, request).await) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        // One request a connection, so that stopping needs no more than an end to accepting.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away or stalls is of no interest.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
    drop(permit);
}
