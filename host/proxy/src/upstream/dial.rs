//! Opening a connection: TCP, TLS where the backend has it, and the HTTP session on top, within `connect_timeout`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_vm::{ConnectionAttributes, TlsAttributes};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::http1::Http1;
use super::{Counters, Stage};
use crate::body::Body;
use crate::facts::next_connection_id;
use crate::observe::Gauge;
use crate::snapshot::{Backend, BackendProtocol};
use crate::tls::{self, Alpn, ClientTls};
use crate::wire::Wire;

/// HTTP/2 receive windows: what a slow client can make us hold, for each response and for a connection.
const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Request bytes waiting for the peer's window, for each stream.
const SEND_BUFFER: usize = 128 << 10;
const HEADER_LIST: u32 = 128 << 10;
/// A peer that vanished without a word is asked for a sign of life while streams wait for it; without one they are broken off.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection for many requests at a time.
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<Body>,
    pub(super) attributes: Arc<ConnectionAttributes>,
    session: Rc<RefCell<Option<Session>>>,
}

type Session = http2::Connection<TokioIo<Wire>, Body, Local>;

impl Http2 {
    /// Requests that the peer allows at a time, as far as its settings have arrived.
    pub(super) fn limit(&self) -> usize {
        let session = self.session.try_borrow().ok();
        let limit = |session: &Session| session.current_max_send_streams();
        session.and_then(|session| session.as_ref().map(limit)).unwrap_or_default()
    }
}

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("attributes", &self.attributes).finish_non_exhaustive()
    }
}

pub(super) enum Connection {
    Http1(Http1),
    Http2(Http2),
}

/// A connection that carries no HTTP of ours.
#[derive(Debug)]
pub struct Bytes {
    /// To be read and written.
    pub wire: Wire,
    /// `peer` is the endpoint.
    pub attributes: Arc<ConnectionAttributes>,
    /// To be kept as long as it is open.
    pub held: Held,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) stage: Stage,
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct Dialer {
    protocol: BackendProtocol,
    tls: Option<Arc<ClientTls>>,
    limit: Duration,
    /// What the last TLS handshake agreed on, where it may be either.
    agreed_http1: Cell<bool>,
    counters: Rc<Counters>,
}

impl Dialer {
    pub(super) fn new(backend: &Backend, counters: Rc<Counters>) -> Dialer {
        Dialer {
            protocol: backend.protocol,
            tls: backend.tls.clone(),
            limit: backend.connect_timeout,
            agreed_http1: Cell::new(false),
            counters,
        }
    }

    /// Whether the next connection is likely to carry many requests at a time, so that it pays to wait for it.
    pub(super) fn expects_http2(&self) -> bool {
        match self.protocol {
            BackendProtocol::Http | BackendProtocol::Tcp | BackendProtocol::Redis => false,
            BackendProtocol::H2c | BackendProtocol::H2 => true,
            BackendProtocol::Https => !self.agreed_http1.get(),
        }
    }

    pub(super) async fn dial(
        &self,
        address: SocketAddr,
        alpn: Alpn,
    ) -> Result<Connection, Refused> {
        let offered = match self.protocol {
            BackendProtocol::H2 => Alpn::H2,
            _ => alpn,
        };
        self.counted(address, self.open(address, offered)).await
    }

    /// A connection for bytes alone.
    pub(super) async fn dial_bytes(&self, address: SocketAddr) -> Result<Bytes, Refused> {
        let opened = async {
            let (wire, attributes, _) = self.connect(address, Alpn::Nothing).await?;
            let held = Held::new(&self.counters.exported.open);
            Ok(Bytes { wire, attributes, held })
        };
        self.counted(address, opened).await
    }

    /// Bounds and counts an attempt to connect.
    async fn counted<T>(
        &self,
        address: SocketAddr,
        attempt: impl Future<Output = io::Result<T>>,
    ) -> Result<T, Refused> {
        let refused = match timeout(self.limit, attempt).await {
            Ok(Ok(connection)) => {
                self.counters.opened.set(self.counters.opened.get() + 1);
                self.counters.exported.opened.increment();
                return Ok(connection);
            }
            Ok(Err(problem)) if problem.kind() != io::ErrorKind::TimedOut => Refused {
                stage: Stage::Connect,
                reason: format!("connect to {address}: {problem}"),
            },
            Ok(Err(_)) | Err(_) => {
                let reason = format!("connect to {address}: nothing within {:?}", self.limit);
                Refused { stage: Stage::ConnectTimeout, reason }
            }
        };
        self.counters.connect_failures.set(self.counters.connect_failures.get() + 1);
        self.counters.exported.connect_failures.increment();
        Err(refused)
    }

    async fn open(&self, address: SocketAddr, offered: Alpn) -> io::Result<Connection> {
        let (wire, attributes, http2) = self.connect(address, offered).await?;
        let open = Held::new(&self.counters.exported.open);
        match http2 {
            true => Ok(Connection::Http2(open_http2(TokioIo::new(wire), attributes, open).await?)),
            false => Ok(Connection::Http1(Http1::new(wire, attributes, open))),
        }
    }

    /// TCP, and TLS where the backend has it; whether HTTP/2 is to be spoken.
    async fn connect(
        &self,
        address: SocketAddr,
        offered: Alpn,
    ) -> io::Result<(Wire, Arc<ConnectionAttributes>, bool)> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let (wire, tls, http2) = self.secure(stream, offered).await?;
        let id = next_connection_id();
        Ok((
            wire,
            Arc::new(ConnectionAttributes { id, peer: address, local, tls: tls.map(Box::new) }),
            http2,
        ))
    }

    async fn secure(
        &self,
        stream: TcpStream,
        offered: Alpn,
    ) -> io::Result<(Wire, Option<TlsAttributes>, bool)> {
        let secure = match self.protocol {
            BackendProtocol::Https | BackendProtocol::H2 => true,
            BackendProtocol::Tcp | BackendProtocol::Redis => self.tls.is_some(),
            BackendProtocol::Http | BackendProtocol::H2c => false,
        };
        let Some(tls) = self.tls.as_ref().filter(|_| secure) else {
            if secure {
                return Err(io::Error::other("the backend has no TLS settings"));
            }
            return Ok((Wire::Plain(stream), None, self.protocol == BackendProtocol::H2c));
        };
        let connected = tls::connect(tls, stream, offered, self.limit).await?;
        if offered == Alpn::Any {
            self.agreed_http1.set(!connected.http2);
        }
        let wire = Wire::Tls(Box::new(connected.stream));
        Ok((wire, Some(connected.attributes), connected.http2))
    }
}

/// Counts a connection for as long as it is open; a tunnel that HTTP has become is none any more.
#[derive(Debug)]
pub struct Held(Gauge);

impl Held {
    fn new(gauge: &Gauge) -> Held {
        gauge.add(1);
        Held(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

async fn open_http2(
    io: TokioIo<Wire>,
    attributes: Arc<ConnectionAttributes>,
    open: Held,
) -> io::Result<Http2> {
    let (sender, connection) = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .handshake(io)
        .await
        .map_err(io::Error::other)?;
    let session = Rc::new(RefCell::new(Some(connection)));
    let (id, running) = (attributes.id, session.clone());
    tokio::task::spawn_local(async move {
        let _open = open;
        let ended = poll_fn(|context| match running.borrow_mut().as_mut() {
            Some(connection) => Pin::new(connection).poll(context),
            None => Poll::Ready(Ok(())),
        });
        if let Err(problem) = ended.await {
            tracing::debug!(connection = id, %problem, "upstream connection ended");
        }
        // Senders learn of the end by this.
        let _ended = running.borrow_mut().take();
    });
    Ok(Http2 { sender, attributes, session })
}

/// Runs hyper's tasks on the worker's own thread.
#[derive(Clone, Copy)]
struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
