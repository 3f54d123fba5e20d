//! Bodies of both directions: played piece by piece from a case, and read to their end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::sync::mpsc::{Receiver, channel};

use crate::case::Piece;

/// Blocks until a guest has logged a line that contains this; false when it does not.
pub type Waiter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What both ends send.
pub type Outgoing = UnsyncBoxBody<Bytes, Infallible>;

/// A message as it arrived; header names in lower case, in order.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Of the head.
    pub headers: Vec<(String, String)>,
    /// As far as it came.
    pub body: Vec<u8>,
    /// Behind the body.
    pub trailers: Vec<(String, String)>,
    /// It broke off.
    pub broken: bool,
}

impl Seen {
    /// Reads a body to its end.
    pub async fn read(headers: &HeaderMap, mut body: Incoming) -> Seen {
        let mut seen = Seen { headers: list(headers), ..Seen::default() };
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => seen.body.extend_from_slice(&data),
                Ok(Err(frame)) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    seen.trailers = list(&trailers);
                }
                Err(_) => {
                    seen.broken = true;
                    break;
                }
            }
        }
        seen
    }

    /// The values of a header, several joined with ` | `; `None`: it is not there.
    #[must_use]
    pub fn field(fields: &[(String, String)], name: &str) -> Option<String> {
        let values: Vec<&str> =
            fields.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value).collect();
        (!values.is_empty()).then(|| values.join(" | "))
    }
}

/// A body of a known length where one piece is all there is; otherwise one that is sent as it is played.
pub fn outgoing(pieces: &[Piece], trailers: HeaderMap, waiter: &Waiter) -> Outgoing {
    match pieces {
        [] if trailers.is_empty() => Full::default().boxed_unsync(),
        [piece] if trailers.is_empty() && data(piece).is_some() => {
            Full::new(data(piece).unwrap_or_default()).boxed_unsync()
        }
        _ => play(pieces.to_vec(), trailers, waiter.clone()).boxed_unsync(),
    }
}

/// # Errors
/// A name or a value that HTTP does not allow.
pub fn fields(list: &[(String, String)]) -> Result<HeaderMap, http::Error> {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        map.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(map)
}

fn list(fields: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    fields.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// The bytes of a piece that is not waited for.
pub fn data(piece: &Piece) -> Option<Bytes> {
    match piece {
        Piece::Text(text) => Some(Bytes::from(text.clone())),
        Piece::Fill { fill, count } => Some(Bytes::from(fill.to_string().repeat(*count))),
        Piece::Wait { .. } => None,
    }
}

fn play(pieces: Vec<Piece>, trailers: HeaderMap, waiter: Waiter) -> Played {
    let (frames, body) = channel(1);
    tokio::spawn(async move {
        for piece in pieces {
            if let Some(data) = data(&piece) {
                if frames.send(Frame::data(data)).await.is_err() {
                    return;
                }
            } else if let Piece::Wait { log } = piece {
                let waiter = waiter.clone();
                // The comparison of the log tells what did not come.
                let _came = tokio::task::spawn_blocking(move || waiter(&log)).await;
            }
        }
        if !trailers.is_empty() {
            let _nobody_reads = frames.send(Frame::trailers(trailers)).await;
        }
    });
    Played { frames: body }
}

struct Played {
    frames: Receiver<Frame<Bytes>>,
}

impl Body for Played {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames.poll_recv(context).map(|frame| frame.map(Ok))
    }
}
