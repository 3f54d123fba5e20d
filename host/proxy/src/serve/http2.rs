//! HTTP/2 on one client connection: hyper's connection, and its end.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::attend::{Left, attend};
use super::io::Prefixed;
use super::{Accepted, LocalExecutor, Reception, Stage};
use crate::body::Body;
use crate::clock::Watch;
use crate::exchange::{Inlet, Reset};

/// Streams of one connection at the same time.
const MAX_STREAMS: u32 = 256;
/// What one stream may send before it is read.
const STREAM_WINDOW: u32 = 256 << 10;
/// What all streams of a connection may send before they are read.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What is kept of one response that the client does not take yet.
const SEND_BUFFER: usize = 128 << 10;

impl Reception {
    /// Serves HTTP/2 to the end.
    pub(super) async fn http2(self: &Rc<Self>, accepted: Accepted) {
        let Accepted { wire, read, attributes, limits, guest } = accepted;
        let watch = Arc::new(Watch::default());
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(limits.request_header_bytes).unwrap_or(u32::MAX));
        let exchanges = self.exchanges(attributes, &watch, guest);
        let service = service_fn(move |request: Request<Incoming>| {
            let (head, body) = request.into_parts();
            let begun = exchanges.begin(head.into(), Inlet::Http2(body), None, &Rc::default());
            async move {
                let response = match begun? {
                    Ok(begun) => begun.answer().await?,
                    Err(refused) => *refused,
                };
                Ok::<http::Response<Body>, Reset>(response.into())
            }
        });
        let stream = TokioIo::new(Prefixed::new(wire, read));
        let mut connection = pin!(builder.serve_connection(stream, service));
        let departure = self.departure(&watch, Stage::Leaving);
        let left = attend(&watch, &limits, departure, &mut connection, |connection| {
            connection.get_mut().as_mut().graceful_shutdown()
        })
        .await;
        if let Left::Ended(Err(error)) = left {
            let kind = if error.is_user() { "reset" } else { "broken" };
            self.note_error(kind, &error);
        }
    }
}
