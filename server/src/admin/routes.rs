//! What is answered to which request.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Body,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, ORIGIN},
};
use serde::{Deserialize, Serialize};

use super::{Desk, InviteMaker, Probe};
use crate::{invites, metrics};

/// Room for a request's body, in bytes.
const BODY_BYTES: usize = 1_024;
/// Longest validity of an invite, in milliseconds: a year.
const VALID_FOR_MS: u64 = 31_536_000_000;

const TEXT: &str = "text/plain; charset=utf-8";
const PATHS: &str = "there are GET /metrics, GET /healthz, GET /readyz and POST /invites\n";

type Answer = Response<Full<Bytes>>;

/// Answers a request.
pub(super) async fn route<B>(desk: &Desk, request: Request<B>) -> Answer
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send,
{
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/metrics" if read => reply(StatusCode::OK, metrics::CONTENT_TYPE, desk.metrics.render()),
        "/healthz" if read => probe(&desk.healthy),
        "/readyz" if read => probe(&desk.ready),
        "/invites" if request.method() == Method::POST => invite(desk, request).await,
        "/metrics" | "/healthz" | "/readyz" => not_allowed("GET, HEAD"),
        "/invites" => not_allowed("POST"),
        path => text(StatusCode::NOT_FOUND, format!("there is no {path} here; {PATHS}")),
    }
}

fn probe(probe: &Probe) -> Answer {
    match probe() {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// What a request for an invite may say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    valid_for_ms: Option<u64>,
}

/// A new invite.
#[derive(Serialize)]
struct Made<'a> {
    token: &'a str,
    valid_for_ms: u64,
    expires_ms: u64,
}

async fn invite<B>(desk: &Desk, request: Request<B>) -> Answer
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send,
{
    // Browsers name the site that a request comes from; the tools of an operator don't. So no site
    // can have an invite made by the browser of somebody who reaches this address.
    if request.headers().contains_key(ORIGIN) {
        let reason = "invites are made by tools, not by web pages\n";
        return text(StatusCode::FORBIDDEN, reason.to_owned());
    }
    let Some(maker) = &desk.invites else {
        let reason = "invites aren't this server's registration policy (registration.policy)\n";
        return text(StatusCode::CONFLICT, reason.to_owned());
    };
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES).collect().await else {
        let reason = format!("a body has at most {BODY_BYTES} bytes\n");
        return text(StatusCode::PAYLOAD_TOO_LARGE, reason);
    };
    let body = body.to_bytes();
    let wanted = match body.is_empty() {
        true => Ok(Wanted::default()),
        false => serde_json::from_slice(&body),
    };
    match wanted {
        Ok(Wanted { valid_for_ms }) => {
            let valid_for_ms = valid_for_ms.unwrap_or(maker.valid_for_ms);
            match (1..=VALID_FOR_MS).contains(&valid_for_ms) {
                true => make_invite(maker, valid_for_ms).await,
                false => {
                    text(StatusCode::BAD_REQUEST, format!("valid_for_ms is 1 to {VALID_FOR_MS}\n"))
                }
            }
        }
        Err(error) => text(
            StatusCode::BAD_REQUEST,
            format!("the body is empty or {{\"valid_for_ms\":…}}: {error}\n"),
        ),
    }
}

async fn make_invite(maker: &InviteMaker, valid_for_ms: u64) -> Answer {
    let expires_ms = maker.clock.now_ms().saturating_add(valid_for_ms);
    let token = match invites::make(maker.store.as_ref(), &maker.random, expires_ms).await {
        Ok(token) => token,
        Err(error) => {
            return text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"));
        }
    };
    let made = Made { token: token.expose_text().unwrap_or_default(), valid_for_ms, expires_ms };
    match serde_json::to_string(&made) {
        Ok(json) => reply(StatusCode::CREATED, "application/json", json + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, PATHS.to_owned());
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

fn text(status: StatusCode, text: String) -> Answer {
    reply(status, TEXT, text)
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
