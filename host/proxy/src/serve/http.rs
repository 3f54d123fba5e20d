//! HTTP on one client connection: hyper's connection, our clock, and the wish to leave.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use portcullis_vm::ConnectionAttributes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::io::Metered;
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
        service_fn(move |request| {
            let in_flight = InFlight::begin(&watch);
            let (reception, attributes, guest) =
                (reception.clone(), attributes.clone(), guest.clone());
            async move { reception.answer(attributes, in_flight, guest, request).await }
        })
    }

    async fn answer(
        self: &Rc<Self>,
        connection: Arc<ConnectionAttributes>,
        in_flight: InFlight,
        guest: Rc<Guest>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Reset> {
        let generation = self.generation.borrow().clone();
        let Some(listener) = generation.listener(&self.name) else { return Err(Reset) };
        let closing = *self.stage.borrow() >= Stage::Leaving;
        let client = Client { connection, listener, closing, in_flight, guest };
        exchange::serve(generation, client, request).await
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
    let mut limits = limits.clone();
    let mut departure = pin!(departure);
    let mut left = false;
    let mut clock = pin!(sleep(limits.request_header_timeout.min(limits.idle_timeout)));
    poll_fn(|context| {
        loop {
            // What has arrived is looked at before the client is told to go.
            if let Poll::Ready(result) = Pin::new(&mut *connection).poll(context) {
                return Poll::Ready(Left::Ended(result));
            }
            let mut leaves = !left && departure.as_mut().poll(context).is_ready();
            while !leaves && clock.as_mut().poll(context).is_ready() {
                match watch.check(&limits) {
                    Ok(wait) => clock.as_mut().reset(Instant::now() + wait),
                    Err(Expiry::Idle) if !left => leaves = true,
                    Err(expiry) => return Poll::Ready(Left::Expired(expiry)),
                }
            }
            if !leaves {
                return Poll::Pending;
            }
            left = true;
            limits.idle_timeout = LINGER;
            watch.restart();
            clock.as_mut().reset(Instant::now() + LINGER);
            shutdown(Pin::new(connection));
        }
    })
    .await
}
