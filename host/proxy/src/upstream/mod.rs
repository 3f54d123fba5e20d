//! Connections to backends: endpoints, names, pools, and sending one request. Works on one worker: nothing here is
//! shared with another. It never decides on retries, timeouts or answers; the exchange does.

mod body;
mod call;
mod dial;
mod endpoints;
mod error;
pub mod grpc;
mod http1;
mod pool;
pub mod redis;
mod request;

use std::cell::Cell;
use std::mem::take;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Version};
use portcullis_vm::{ConnectionAttributes, RequestHead, UpstreamHost};

use crate::body::Body;
use crate::message::Response;
use crate::now::now;
use crate::observe::families::{
    UPSTREAM_CONNECT_FAILURES, UPSTREAM_CONNECTIONS, UPSTREAM_CONNECTIONS_ACTIVE,
};
use crate::observe::{Counter, Gauge, Registry};
use crate::snapshot::{Backend, BackendProtocol, Endpoint, EndpointAddress};

pub use body::ResponseBody;
pub use call::call;
pub use dial::{Bytes, Held};
pub use error::{SendError, Stage};

use dial::{Dialer, Refused};
use endpoints::Endpoints;
use pool::{Pool, Wanted};
use request::Target;

/// A reused connection may turn out dead once from the pool; then a fresh one is opened, and that one's word counts.
const TRIES: usize = 2;

/// One backend as one worker sees it: its endpoints and the connections to them.
#[derive(Debug)]
pub struct Cluster {
    backend: Arc<Backend>,
    endpoints: Endpoints,
    hosts: Arc<[UpstreamHost]>,
    dialer: Dialer,
    pool: Rc<Pool>,
    counters: Rc<Counters>,
}

/// What a request needs beyond head and body.
#[derive(Clone, Debug, Default)]
pub struct SendOptions {
    /// Ask for an upgrade to this protocol; HTTP/1.1 only. After a 101 the body hands out the tunnel.
    pub upgrade: Option<Box<HeaderValue>>,
    /// By no HTTP/1 connection that has served before.
    pub fresh: bool,
    /// By HTTP/2 or not at all.
    pub http2: bool,
    /// To this endpoint, by its place among [`Cluster::hosts`], and to no other.
    pub endpoint: Option<usize>,
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
    /// How long the request waited for the connection.
    pub pool_ready: Duration,
    /// When it left.
    pub sent: Instant,
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
    /// Open connections without a request.
    pub idle: u64,
}

#[derive(Debug, Default)]
struct Counters {
    opened: Cell<u64>,
    connect_failures: Cell<u64>,
    active: Cell<u64>,
    exported: Exported,
}

/// What the metrics say of a backend, all workers together.
#[derive(Debug, Default)]
struct Exported {
    opened: Counter,
    connect_failures: Counter,
    open: Gauge,
}

impl Exported {
    fn of(backend: &Backend, registry: &Registry) -> Exported {
        Exported {
            opened: registry.series(&UPSTREAM_CONNECTIONS, [&backend.name]),
            connect_failures: registry.series(&UPSTREAM_CONNECT_FAILURES, [&backend.name]),
            open: registry.series(&UPSTREAM_CONNECTIONS_ACTIVE, [&backend.name]),
        }
    }
}

impl Cluster {
    /// The cluster of a backend, without a connection yet. To be used inside a `LocalSet`.
    pub fn new(backend: Arc<Backend>) -> Rc<Cluster> {
        Cluster::with(backend, Exported::default())
    }

    /// As [`new`](Self::new), with its connections counted in `registry`.
    pub fn counted(backend: Arc<Backend>, registry: &Registry) -> Rc<Cluster> {
        let exported = Exported::of(&backend, registry);
        Cluster::with(backend, exported)
    }

    fn with(backend: Arc<Backend>, exported: Exported) -> Rc<Cluster> {
        let counters = Rc::new(Counters { exported, ..Counters::default() });
        Rc::new(Cluster {
            endpoints: Endpoints::new(&backend.endpoints),
            hosts: backend.endpoints.iter().map(Endpoint::host).collect(),
            dialer: Dialer::new(&backend, counters.clone()),
            pool: Rc::new(Pool::new(backend.idle_timeout, counters.clone())),
            counters,
            backend,
        })
    }

    /// What it was made of.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Its endpoints as guests see them, in the order of the backend.
    pub fn hosts(&self) -> &Arc<[UpstreamHost]> {
        &self.hosts
    }

    /// Addresses that are known at the moment.
    pub fn addresses(&self) -> usize {
        self.endpoints.addresses()
    }

    /// Figures for status and metrics.
    pub fn stats(&self) -> ClusterStats {
        ClusterStats {
            opened: self.counters.opened.get(),
            connect_failures: self.counters.connect_failures.get(),
            active: self.counters.active.get(),
            idle: self.pool.idle(),
        }
    }

    /// How to name the server where nobody has: by its TLS name, else by that of its first endpoint; empty if that is an
    /// address, which is then named as it is connected to.
    fn authority(&self) -> String {
        if let Some(tls) = &self.backend.tls {
            return tls.hostname().to_owned();
        }
        match self.backend.endpoints.first().map(|endpoint| &endpoint.address) {
            Some(EndpointAddress::Dns(host, port)) => format!("{host}:{port}"),
            _ => String::new(),
        }
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
        mut body: Body,
        options: &SendOptions,
    ) -> Result<Box<Upstreamed>, Box<SendError>> {
        let target = match Target::new(head, options) {
            Ok(target) => target,
            Err(reason) => return Err(SendError::before(Stage::Request, reason, body)),
        };
        let mut wanted = match self.wanted(options) {
            Ok(wanted) => wanted,
            Err(reason) => return Err(SendError::before(Stage::Request, reason, body)),
        };
        let address = match self.endpoints.next(options.endpoint).await {
            Ok(address) => address,
            Err((stage, reason)) => return Err(SendError::before(stage, reason, body)),
        };
        let mut tries = 1;
        loop {
            match self.attempt(&address, wanted, &target, &mut body).await {
                // Nothing was written, so nothing can have happened.
                Err(mut error) if error.stage == Stage::Sent && error.reused && tries < TRIES => {
                    match error.body.take() {
                        Some(unsent) => body = unsent,
                        None => return Err(error),
                    }
                    wanted.fresh = true;
                    tries += 1;
                }
                sent => return sent,
            }
        }
    }

    /// Opens a connection for bytes to the endpoint whose turn it is; with TLS where the backend has it.
    ///
    /// Cancel safe: dropped, it closes the connection.
    ///
    /// # Errors
    /// No connection; see [`SendError`].
    pub async fn connect(&self) -> Result<Bytes, SendError> {
        let next = self.endpoints.next(None).await;
        let address = next.map_err(|(stage, reason)| SendError::connecting(stage, reason, None))?;
        let dialled = self.dialer.dial_bytes(address).await;
        dialled.map_err(|Refused { stage, reason }| {
            SendError::connecting(stage, reason, Some(address))
        })
    }

    /// Takes the body; in an error it comes back if nothing of it was sent. It is lent, since each future that it was moved
    /// through would keep room for it.
    async fn attempt(
        &self,
        address: &SocketAddr,
        wanted: Wanted,
        target: &Target<'_>,
        body: &mut Body,
    ) -> Result<Box<Upstreamed>, Box<SendError>> {
        let (mut lease, pool_ready) = match self.pool.acquire(&self.dialer, *address, wanted).await
        {
            Ok((lease, _)) if wanted.http2_only && lease.version() != Version::HTTP_2 => {
                lease.release();
                return Err(SendError::before(Stage::Request, self.http1_only(), take(body)));
            }
            Ok(acquired) => acquired,
            Err(refused) => {
                let mut error = SendError::before(refused.stage, refused.reason, take(body));
                error.endpoint = Some(*address);
                return Err(error);
            }
        };
        let reused = lease.reused();
        let sent = now();
        match lease.send(target, body).await {
            Ok(response) => {
                let connection = lease.connection().clone();
                let response = ResponseBody::wrap(response, lease);
                Ok(Box::new(Upstreamed { response, connection, reused, pool_ready, sent }))
            }
            Err(error) => {
                if error.stage == Stage::Request {
                    lease.release();
                }
                Err(error)
            }
        }
    }

    /// What kind of connection a request needs.
    fn wanted(&self, options: &SendOptions) -> Result<Wanted, String> {
        let upgrade = options.upgrade.is_some();
        let http1_only = match self.backend.protocol {
            BackendProtocol::Http if options.http2 => return Err(self.http1_only()),
            BackendProtocol::Http => true,
            BackendProtocol::Https => upgrade,
            BackendProtocol::H2c | BackendProtocol::H2 if upgrade => {
                let name = &self.backend.name;
                return Err(format!("backend {name} speaks HTTP/2, which has no upgrade"));
            }
            BackendProtocol::H2c | BackendProtocol::H2 => false,
            BackendProtocol::Tcp | BackendProtocol::Redis => {
                return Err(format!("backend {} speaks no HTTP", self.backend.name));
            }
        };
        Ok(Wanted { http1_only, http2_only: options.http2, fresh: options.fresh })
    }

    fn http1_only(&self) -> String {
        format!("backend {} speaks HTTP/1.1, and this needs HTTP/2", self.backend.name)
    }
}
