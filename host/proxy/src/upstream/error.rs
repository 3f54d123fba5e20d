//! Why a request got no answer from an upstream.

use std::fmt;
use std::net::SocketAddr;

use http::Request;
use hyper::client::conn::TrySendError;

use crate::body::Body;
use crate::facts::Flags;
use crate::reply::Failure;

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The backend has no endpoint.
    Endpoint,
    /// The endpoint's name has no address.
    Resolve,
    /// No TCP connection, no TLS session or no HTTP/2 session.
    Connect,
    /// The same, for `connect_timeout`.
    ConnectTimeout,
    /// The request cannot be expressed in the upstream's protocol.
    Request,
    /// Sent in part or in whole; then the connection, or the body to be sent, broke before the head of a response.
    Sent,
    /// The upstream reset the stream (HTTP/2).
    StreamReset,
    /// What came back is no HTTP.
    Protocol,
}

/// No head of a response.
#[derive(Debug)]
pub struct SendError {
    /// How far it got.
    pub stage: Stage,
    /// Whether nothing of the request can have been processed, so that even one with side effects may be sent again.
    pub retry_safe: bool,
    /// Whether the connection had served a request before, so that the end of it may be mere chance.
    pub reused: bool,
    /// The body, if nothing of it was taken.
    pub body: Option<Body>,
    /// Where it was sent, once that was decided.
    pub endpoint: Option<SocketAddr>,
    /// What happened, in words; may name internal addresses.
    pub reason: String,
}

impl SendError {
    /// An error before anything was sent; the body goes back.
    pub(super) fn before(stage: Stage, reason: String, body: Body) -> Box<SendError> {
        let retry_safe = stage != Stage::Request;
        let body = Some(body);
        Box::new(SendError { stage, retry_safe, reused: false, body, endpoint: None, reason })
    }

    /// No connection, for somebody who has no request.
    pub(super) fn connecting(
        stage: Stage,
        reason: String,
        endpoint: Option<SocketAddr>,
    ) -> SendError {
        SendError { stage, retry_safe: true, reused: false, body: None, endpoint, reason }
    }

    /// What to answer when there is no retry.
    pub fn failure(&self) -> Failure {
        let reason = self.reason.clone();
        match self.stage {
            Stage::Endpoint | Stage::Resolve => Failure::NoEndpoint(reason),
            Stage::Connect | Stage::ConnectTimeout => Failure::Connect(reason),
            Stage::Request => Failure::BadRequest(reason),
            Stage::Sent | Stage::StreamReset => Failure::Reset(reason),
            Stage::Protocol => Failure::Protocol(reason),
        }
    }

    /// For the access log; finer than those of [`failure`](Self::failure).
    pub fn flags(&self) -> Flags {
        let mut flags = self.failure().flags();
        match self.stage {
            Stage::Resolve => flags.insert(Flags::DNS_FAILURE),
            Stage::StreamReset => flags = Flags::UPSTREAM_RESET,
            _ => {}
        }
        flags
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for SendError {}

/// What hyper's error means for a request on an HTTP/2 connection.
pub(super) fn classify(
    mut error: TrySendError<Request<Body>>,
    endpoint: SocketAddr,
    reused: bool,
) -> SendError {
    let body = error.take_message().map(Request::into_body);
    let error = error.into_error();
    let h2 = source::<h2::Error>(&error);
    let stage = match h2 {
        _ if error.is_parse() || error.is_parse_too_large() => Stage::Protocol,
        Some(h2) if h2.is_reset() => Stage::StreamReset,
        _ => Stage::Sent,
    };
    // RFC 9113, 8.7: a refused stream, and one beyond the last of a GOAWAY, has not been processed.
    let unprocessed = h2.is_some_and(|h2| match h2.reason() {
        Some(h2::Reason::REFUSED_STREAM) => h2.is_remote(),
        Some(h2::Reason::NO_ERROR) => h2.is_remote() && h2.is_go_away(),
        _ => false,
    });
    let retry_safe = unprocessed || body.is_some();
    let reason = format!("{endpoint}: {}", chain(&error));
    SendError { stage, retry_safe, reused, body, endpoint: Some(endpoint), reason }
}

fn source<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error and all that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
