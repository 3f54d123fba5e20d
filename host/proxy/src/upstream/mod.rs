//! Connections to backends: endpoints, names, pools, and sending one request. Works on one worker: nothing here is
//! shared with another. It never decides on retries, timeouts or answers; the exchange does.

mod error;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use portcullis_vm::{CallOutcome, ConnectionAttributes, RequestHead};

use crate::body::Body;
use crate::snapshot::Backend;

pub use error::{SendError, Stage};

/// One backend as one worker sees it: its endpoints and the connections to them.
#[derive(Debug)]
pub struct Cluster {
    backend: Arc<Backend>,
}

/// What a request needs beyond head and body.
#[derive(Clone, Debug, Default)]
pub struct SendOptions {
    /// Ask for an upgrade to this protocol; HTTP/1.1 only. `hyper::upgrade::on` the response hands out the tunnel.
    pub upgrade: Option<HeaderValue>,
}

/// The head of an upstream's answer, with its body still to come.
#[derive(Debug)]
pub struct Upstreamed {
    /// As received; hop-by-hop headers are still in.
    pub response: Response<ResponseBody>,
    /// The connection it came by; `peer` is the endpoint.
    pub connection: Arc<ConnectionAttributes>,
    /// Whether the connection had served a request before.
    pub reused: bool,
}

/// Figures of one cluster on one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterStats {
    /// Connections opened since the cluster was made.
    pub opened: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Requests in flight, up to the end of the response's body.
    pub active: u64,
    /// Connections without a request.
    pub idle: u64,
}

/// The body of an upstream's answer. Read to its end it gives the connection back to the pool; dropped before, it closes
/// the connection (HTTP/1) or resets the stream (HTTP/2).
#[derive(Debug)]
pub struct ResponseBody {
    incoming: hyper::body::Incoming,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Cluster {
    /// The cluster of a backend, without a connection yet. To be made and used inside a `LocalSet`.
    pub fn new(backend: Arc<Backend>) -> Rc<Cluster> {
        Rc::new(Cluster { backend })
    }

    /// What it was made of.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Figures for status and metrics.
    pub fn stats(&self) -> ClusterStats {
        todo!()
    }

    /// Sends one request to the endpoint whose turn it is and waits for the head of the answer.
    ///
    /// The headers are sent as they are: hop-by-hop fields have to be gone, `content-length` has to be true or absent, and
    /// `trailer` names trailers that an HTTP/1 upstream shall get. Host, `te` (gRPC) and the framing are added here. A
    /// reused connection that turns out dead before anything was written is replaced.
    ///
    /// Cancel safe: dropped, it closes the connection (HTTP/1) or resets the stream (HTTP/2).
    ///
    /// # Errors
    /// No head of a response; see [`SendError`].
    pub async fn send(
        self: &Rc<Self>,
        head: &RequestHead,
        body: Body,
        options: SendOptions,
    ) -> Result<Upstreamed, SendError> {
        let _ = (head, body, options);
        todo!()
    }
}

/// Makes a guest's callout: the whole answer within `timeout`, its body at most `limit` bytes. The reason goes with a
/// failure, for the log.
///
/// Cancel safe, as [`Cluster::send`].
pub async fn call(
    cluster: &Rc<Cluster>,
    head: &RequestHead,
    body: Bytes,
    trailers: HeaderMap,
    timeout: Option<Duration>,
    limit: usize,
) -> Result<CallOutcome, String> {
    let _ = (cluster, head, body, trailers, timeout, limit);
    todo!()
}
