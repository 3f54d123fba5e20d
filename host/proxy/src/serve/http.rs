//! HTTP on one client connection: hyper's connection, our clock, and the wish to leave.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use portcullis_vm::ConnectionAttributes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::io::Metered;
use super::quiet::{First, beside};
use super::{Guest, LocalExecutor, Reception, Stage};
use crate::body::Body;
use crate::clock::{Expiry, InFlight, Watch};
use crate::exchange::{self, Client, Reset};
use crate::snapshot::Limits;

/// HTTP/2 streams of one connection at the same time.
const MAX_STREAMS: u32 = 256;
/// What one HTTP/2 stream may send before it is read.
const STREAM_WINDOW: u32 = 256 << 10;
/// What all streams of a connection may send before they are read.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What is kept of one HTTP/2 response that the client does not take yet.
const SEND_BUFFER: usize = 128 << 10;
/// How long a client that was told to leave may do nothing.
const LINGER: Duration = Duration::from_secs(5);
/// The smallest buffer that hyper accepts.
const SMALLEST_BUFFER: usize = 8192;

/// What a client is told that has not sent its request's head in time. Nothing else writes to the connection then.
pub const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\n\
    content-length: 48\r\nx-portcullis-code: P0711\r\nconnection: close\r\n\r\n\
    P0711 the request's head did not arrive in time\n";

/// A client connection after its handshake.
#[derive(Debug)]
pub struct Accepted<T> {
    /// To be read and written.
    pub stream: T,
    /// What was read already.
    pub read: Vec<u8>,
    /// Who.
    pub attributes: Arc<ConnectionAttributes>,
    /// Limits at the time it came.
    pub limits: Limits,
    /// Counts it.
    pub guest: Rc<Guest>,
}

/// How hyper's connection was left.
enum Left<E> {
    Ended(Result<(), E>),
    Expired(Expiry),
}

impl Reception {
    /// Serves HTTP/1 to the end.
    pub(super) async fn http1<T>(self: &Rc<Self>, accepted: Accepted<T>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Accepted { stream, read, attributes, limits, guest } = accepted;
        let watch = Arc::new(Watch::default());
        let stream = Metered::new(stream, read, Some(watch.clone()));
        let mut builder = http1::Builder::new();
        builder.header_read_timeout(None);
        builder.max_buf_size(limits.request_header_bytes.max(SMALLEST_BUFFER));
        let service = Reception::service(self.clone(), attributes, watch.clone(), guest);
        let mut connection =
            builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        // Until the listener closes, responses say that the connection ends; the client closes it.
        let departure = self.departure(&watch, Stage::Closing);
        let left = attend(&watch, &limits, departure, &mut connection, |connection| {
            connection.graceful_shutdown()
        })
        .await;
        match left {
            Left::Ended(Ok(())) | Left::Expired(Expiry::Idle) => {}
            Left::Ended(Err(error)) => self.note_error(&error),
            Left::Expired(Expiry::Head) => {
                self.count_error("408");
                if let Some(parts) = connection.into_parts() {
                    let mut stream = parts.io.into_inner();
                    drop(stream.write_all(REQUEST_TIMEOUT).await);
                    drop(stream.shutdown().await);
                }
            }
        }
    }

    /// Serves HTTP/2 to the end.
    pub(super) async fn http2<T>(self: &Rc<Self>, accepted: Accepted<T>)
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Accepted { stream, read, attributes, limits, guest } = accepted;
        let watch = Arc::new(Watch::default());
        let stream = Metered::new(stream, read, None);
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(limits.request_header_bytes).unwrap_or(u32::MAX));
        let service = Reception::service(self.clone(), attributes, watch.clone(), guest);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let departure = self.departure(&watch, Stage::Leaving);
        let left = attend(&watch, &limits, departure, &mut connection, |connection| {
            connection.get_mut().as_mut().graceful_shutdown()
        })
        .await;
        if let Left::Ended(Err(error)) = left {
            self.note_error(&error);
        }
    }

    /// When a connection is to end: once the listener's stage is `at`, and the client's first request, if it comes soon
    /// enough, has begun. A head that has begun to arrive is waited for.
    async fn departure(&self, watch: &Watch, at: Stage) {
        let mut stage = self.stage.clone();
        // A listener that is gone is closed.
        drop(stage.wait_for(|stage| *stage >= at).await);
        tokio::select! {
            () = watch.request_begun() => {}
            () = self.closed() => {}
        }
        watch.head_complete().await;
    }

    fn service(
        reception: Rc<Reception>,
        attributes: Arc<ConnectionAttributes>,
        watch: Arc<Watch>,
        guest: Rc<Guest>,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Reset,
        Future = impl Future<Output = Result<Response<Body>, Reset>> + 'static,
    > {
        let name = exchange::name_of(attributes.peer.ip());
        service_fn(move |request| {
            let generation = reception.generation.borrow().clone();
            let client = generation.listener(&reception.name).map(|listener| Client {
                connection: attributes.clone(),
                name: name.clone(),
                listener,
                closing: *reception.stage.borrow() >= Stage::Leaving,
                in_flight: InFlight::begin(&watch),
                guest: guest.clone(),
            });
            let begun = client.map(|client| exchange::begin(generation, client, request));
            async move {
                match begun.ok_or(Reset)? {
                    Ok(begun) => begun.answer().await,
                    Err(refused) => Ok(*refused),
                }
            }
        })
    }
}

/// Drives a connection until it ends or its clock runs out; when its departure has come, or nothing was done for too
/// long, the client is told, and gets some time to go.
async fn attend<C, E>(
    watch: &Watch,
    limits: &Limits,
    departure: impl Future<Output = ()>,
    connection: &mut C,
    shutdown: impl Fn(Pin<&mut C>),
) -> Left<E>
where
    C: Future<Output = Result<(), E>> + Unpin,
{
    let leave = pin!(async {
        tokio::select! {
            biased;
            () = departure => Ok(()),
            expiry = watch.expired(limits) => match expiry {
                Expiry::Idle => Ok(()),
                Expiry::Head => Err(Expiry::Head),
            },
        }
    });
    // What has arrived is looked at before the client is told to go.
    match beside(connection, leave).await {
        First::Driven(result) => return Left::Ended(result),
        First::Quiet(Err(expiry)) => return Left::Expired(expiry),
        First::Quiet(Ok(())) => {}
    }
    watch.restart();
    shutdown(Pin::new(connection));
    let limits = Limits { idle_timeout: LINGER, ..limits.clone() };
    match beside(connection, pin!(watch.expired(&limits))).await {
        First::Driven(result) => Left::Ended(result),
        First::Quiet(expiry) => Left::Expired(expiry),
    }
}
