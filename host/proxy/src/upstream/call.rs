//! Callouts of guests: one request, the whole answer in memory, within limits.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http_body_util::{BodyExt, Full};
use portcullis_vm::{CallOutcome, Fields, RequestHead};
use tokio::time::timeout;

use super::{Cluster, ResponseBody, SendOptions};
use crate::body::{Body, BodyError};
use crate::message::Response;

/// For a guest that sets none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// However long a guest would wait.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

const HOP_BY_HOP: [HeaderName; 5] = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Makes a guest's callout: the whole answer within `limit_time` (15 s if the guest set none, 60 s at the most), its body
/// at most `limit` bytes.
///
/// Cancel safe, as [`Cluster::send`].
///
/// # Errors
/// The reason, for the log; the guest only learns that the call failed.
pub async fn call(
    cluster: &Rc<Cluster>,
    head: &RequestHead,
    body: Bytes,
    trailers: Fields,
    limit_time: Option<Duration>,
    limit: usize,
) -> Result<CallOutcome, String> {
    let limit_time = self::limit(limit_time);
    let mut head = head.clone();
    strip(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    if !trailers.is_empty() {
        announce(&mut head.headers, &trailers)?;
    }
    let whole = async {
        let body = outgoing(body, &trailers);
        let answer = cluster.send(&head, body, &SendOptions::default()).await;
        collect(answer.map_err(|problem| problem.to_string())?.response, limit).await
    };
    match timeout(limit_time, whole).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {limit_time:?}")),
    }
}

/// How long a call may take for which the guest set `limit`.
pub(super) fn limit(limit: Option<Duration>) -> Duration {
    limit.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT)
}

async fn collect(response: Response<ResponseBody>, limit: usize) -> Result<CallOutcome, String> {
    let Response { mut head, body: mut incoming } = response;
    let mut body = BytesMut::new();
    let mut trailers = Fields::default();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|problem| format!("the answer broke off: {problem}"))?;
        match frame.into_data() {
            Ok(data) if body.len() + data.len() > limit => {
                return Err(format!("the answer's body is longer than {limit} bytes"));
            }
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = (&frame.into_trailers().unwrap_or_default()).into(),
        }
    }
    strip(&mut head.headers);
    Ok(CallOutcome::Answered { head, body: body.freeze(), trailers })
}

pub(super) fn strip(headers: &mut Fields) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn announce(headers: &mut Fields, trailers: &Fields) -> Result<(), String> {
    let names: Vec<&[u8]> = trailers.names().collect();
    headers.insert(TRAILER, names.join(&b", "[..])).map_err(|refused| refused.to_string())
}

fn outgoing(body: Bytes, trailers: &Fields) -> Body {
    if trailers.is_empty() {
        return Body::from(body);
    }
    let never = |never: Infallible| -> BodyError { match never {} };
    let trailers = std::future::ready(Some(Ok(trailers.into())));
    Body::stream(Full::new(body).with_trailers(trailers).map_err(never))
}
