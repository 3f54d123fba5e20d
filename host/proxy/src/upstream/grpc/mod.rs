//! gRPC callouts of guests, over HTTP/2: messages are framed and unframed here, and whatever happens, a call ends with one
//! status.

mod frames;
mod outbox;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{Method, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use percent_encoding::percent_decode;
use portcullis_vm::{Fields, GrpcCall, GrpcEvent, RequestHead};
use tokio::time::timeout;

use super::call::{limit, strip};
use super::{Cluster, ResponseBody, SendOptions};
use crate::body::Body;
use crate::message::Response;
use crate::reply::{Dialect, grpc_status_of};
use frames::{Unframing, framed};

pub use outbox::{Outbox, Waiting, outbox};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Bytes that a message may have, in either direction.
pub(super) const MAX_MESSAGE: usize = 4 << 20;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcStatus {
    /// gRPC's number.
    pub code: u32,
    /// May be empty.
    pub message: String,
}

impl GrpcStatus {
    const UNKNOWN: u32 = 2;
    const DEADLINE_EXCEEDED: u32 = 4;
    const RESOURCE_EXHAUSTED: u32 = 8;
    const UNIMPLEMENTED: u32 = 12;
    const INTERNAL: u32 = 13;
    const UNAVAILABLE: u32 = 14;

    /// The upstream cannot be called.
    pub fn unavailable(message: impl Into<String>) -> GrpcStatus {
        GrpcStatus::new(GrpcStatus::UNAVAILABLE, message)
    }

    fn new(code: u32, message: impl Into<String>) -> GrpcStatus {
        GrpcStatus { code, message: message.into() }
    }

    /// As trailing metadata say it.
    fn of(trailers: &Fields) -> Option<GrpcStatus> {
        let code = std::str::from_utf8(trailers.get(GRPC_STATUS)?).ok()?.parse().ok()?;
        let message = trailers.get(GRPC_MESSAGE).unwrap_or_default();
        Some(GrpcStatus::new(code, percent_decode(message).decode_utf8_lossy()))
    }
}

impl From<GrpcStatus> for GrpcEvent {
    fn from(status: GrpcStatus) -> GrpcEvent {
        GrpcEvent::Closed { status: status.code, message: status.message }
    }
}

/// Makes a unary call: within the guest's time limit (15 s if it set none, 60 s at the most), one message back.
///
/// Cancel safe: dropped, it resets the HTTP/2 stream.
///
/// # Errors
/// The status, where it is not OK.
pub async fn unary(
    cluster: &Rc<Cluster>,
    call: &GrpcCall,
    message: &[u8],
) -> Result<Bytes, GrpcStatus> {
    if message.len() > MAX_MESSAGE {
        let text = format!("the message is longer than {MAX_MESSAGE} bytes");
        return Err(GrpcStatus::new(GrpcStatus::RESOURCE_EXHAUSTED, text));
    }
    let limit = limit(call.timeout);
    let (mut answer, mut surplus) = (None, false);
    let ended = {
        let body = Body::from(framed(message));
        let mut tell = |event| match event {
            GrpcEvent::Message(_) if answer.is_some() => surplus = true,
            GrpcEvent::Message(message) => answer = Some(message),
            _ => {}
        };
        timeout(limit, exchange(cluster, call, Some(limit), body, &mut tell)).await
    };
    let (_, status) = ended.unwrap_or_else(|_| {
        let text = format!("no answer within {limit:?}");
        (Fields::default(), GrpcStatus::new(GrpcStatus::DEADLINE_EXCEEDED, text))
    });
    match answer {
        _ if status.code != 0 => Err(status),
        Some(answer) if !surplus => Ok(answer),
        _ => Err(GrpcStatus::new(GrpcStatus::INTERNAL, "the answer is not one message")),
    }
}

/// Runs a stream whose messages come from the outbox of `body`, and tells of everything that comes back but the close,
/// which is the status.
///
/// Cancel safe: dropped, it resets the HTTP/2 stream.
pub async fn stream(
    cluster: &Rc<Cluster>,
    call: &GrpcCall,
    body: Body,
    tell: &mut dyn FnMut(GrpcEvent),
) -> GrpcStatus {
    let (trailers, status) = exchange(cluster, call, None, body, tell).await;
    tell(GrpcEvent::TrailingMetadata(trailers));
    status
}

/// What a stream ends with whose messages pile up.
pub fn overflow() -> GrpcEvent {
    GrpcStatus::new(GrpcStatus::RESOURCE_EXHAUSTED, "too much waits to be sent").into()
}

/// Trailing metadata and status.
async fn exchange(
    cluster: &Rc<Cluster>,
    call: &GrpcCall,
    limit: Option<Duration>,
    body: Body,
    tell: &mut dyn FnMut(GrpcEvent),
) -> (Fields, GrpcStatus) {
    let sent = match head(cluster, call, limit) {
        Ok(head) => {
            let options = SendOptions { http2: true, ..SendOptions::default() };
            cluster.send(&head, body, &options).await
        }
        Err(status) => return (Fields::default(), status),
    };
    let received = match sent {
        Ok(answer) => receive(answer.response, tell).await,
        Err(error) => Err(GrpcStatus::unavailable(error.reason)),
    };
    match received {
        Ok(trailers) => {
            let silent = || GrpcStatus::new(GrpcStatus::UNKNOWN, "the answer has no status");
            let status = GrpcStatus::of(&trailers).unwrap_or_else(silent);
            (trailers, status)
        }
        Err(status) => (Fields::default(), status),
    }
}

fn head(
    cluster: &Cluster,
    call: &GrpcCall,
    limit: Option<Duration>,
) -> Result<RequestHead, GrpcStatus> {
    let mut headers = call.metadata.clone();
    strip(&mut headers);
    headers.remove(CONTENT_LENGTH);
    headers.remove(GRPC_ENCODING);
    let timeout = limit.map(|limit| (GRPC_TIMEOUT, format!("{}m", limit.as_millis())));
    let fixed = [(CONTENT_TYPE, "application/grpc"), (GRPC_ACCEPT_ENCODING, "identity")];
    let fixed = fixed.map(|(name, value)| (name, value.to_owned()));
    for (name, value) in fixed.into_iter().chain(timeout) {
        let full = |_| GrpcStatus::new(GrpcStatus::INTERNAL, "too much metadata");
        headers.insert(name, value).map_err(full)?;
    }
    let authority = match call.authority.as_str() {
        "" => cluster.authority(),
        named => named.to_owned(),
    };
    Ok(RequestHead {
        method: Method::POST,
        scheme: Bytes::from_static(if cluster.backend().tls.is_some() {
            b"https"
        } else {
            b"http"
        }),
        authority: Bytes::from(authority),
        path: Bytes::from(call.path.clone()),
        headers,
    })
}

/// Tells of initial metadata and messages; gives trailing metadata back.
async fn receive(
    response: Response<ResponseBody>,
    tell: &mut dyn FnMut(GrpcEvent),
) -> Result<Fields, GrpcStatus> {
    let Response { head, body: mut incoming } = response;
    if incoming.is_end_stream() && head.headers.contains(GRPC_STATUS) {
        tell(GrpcEvent::InitialMetadata(None));
        return Ok(head.headers);
    }
    if head.status != StatusCode::OK {
        let code = u32::from(grpc_status_of(head.status));
        return Err(GrpcStatus::new(code, format!("HTTP status {}", head.status)));
    }
    if Dialect::of(&head.headers) != Dialect::Grpc {
        return Err(GrpcStatus::new(GrpcStatus::UNKNOWN, "the answer is no gRPC"));
    }
    let mut messages = Unframing::new(&head.headers);
    tell(GrpcEvent::InitialMetadata(Some(head)));
    let mut trailers = Fields::default();
    while let Some(frame) = incoming.frame().await {
        let broken = |problem| GrpcStatus::unavailable(format!("the answer broke off: {problem}"));
        match frame.map_err(broken)?.into_data() {
            Ok(data) => {
                messages.push(&data);
                while let Some(message) = messages.next()? {
                    tell(GrpcEvent::Message(message));
                }
            }
            Err(frame) => trailers = (&frame.into_trailers().unwrap_or_default()).into(),
        }
    }
    messages.end()?;
    Ok(trailers)
}
