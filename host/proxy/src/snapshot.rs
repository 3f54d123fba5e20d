//! The immutable configuration that everything reads. Built by the program's `plan`, checked there; a published
//! snapshot is never modified.
//!
//! Cross references are indices into the vectors of the same [`Snapshot`]; [`Snapshot::check`] proves them in range.

mod backend;
mod filter;
mod route;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::tls::ServerTls;

pub use backend::{Backend, BackendProtocol, Endpoint, EndpointAddress};
pub use filter::{AllowCalls, FailStrategy, Filter, InstanceLimits, Isolation};
pub use route::{
    GrpcMatch, HeaderMatch, HeaderModifier, Match, PathMatch, PathModifier, QueryMatch, Redirect,
    Retry, Rewrite, Route, RouteFilter, RouteKind, Rule, TcpRoute, Timeouts, ValueMatch,
    WeightedBackend,
};

/// One complete configuration.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts up with every accepted configuration; 0 until `control` has assigned it.
    pub generation: u64,
    /// Where clients connect.
    pub listeners: Vec<Arc<Listener>>,
    /// HTTPRoutes and GRPCRoutes, oldest first, then by namespace and name.
    pub routes: Vec<Arc<Route>>,
    /// TCPRoutes and TLSRoutes, oldest first, then by namespace and name.
    pub tcp_routes: Vec<Arc<TcpRoute>>,
    /// Where traffic can go.
    pub backends: Vec<Arc<Backend>>,
    /// Wasm filters, by namespace and name.
    pub filters: Vec<Arc<Filter>>,
    /// Limits on clients.
    pub limits: Limits,
    /// `None`: off.
    pub access_log: Option<AccessLog>,
}

/// Index into [`Snapshot::listeners`].
pub type ListenerIndex = usize;
/// Index into [`Snapshot::backends`].
pub type BackendIndex = usize;
/// Index into [`Snapshot::filters`].
pub type FilterIndex = usize;

/// A listening address.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Unique in the snapshot.
    pub name: String,
    /// Where to listen. Port 0 lets the system choose; see `Proxy::address`.
    pub address: SocketAddr,
    /// Whose traffic arrives here.
    pub direction: ListenerDirection,
    /// What is spoken inside the connections.
    pub protocol: ListenerProtocol,
    /// `None`: plain, with HTTP this means HTTP/1.1 and h2c with prior knowledge. Never there with
    /// [`ListenerProtocol::Passthrough`].
    pub tls: Option<Arc<ServerTls>>,
    /// Proxies in front of us whose `x-forwarded-for` entries are believed.
    pub trusted_hops: usize,
    /// The filters with `attach: LISTENER` that apply here, in request order.
    pub filters: Vec<FilterIndex>,
}

/// What a listener speaks, inside TLS if it has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2.
    #[default]
    Http,
    /// Bytes.
    Tcp,
    /// TLS that is not ours to terminate: only the server name that the client asks for is read.
    Passthrough,
}

/// Whose traffic arrives at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerDirection {
    /// To the application beside us.
    Inbound,
    /// From the application beside us.
    Outbound,
    /// From outside to many applications.
    Gateway,
}

/// Limits on clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's head; more is 431.
    pub request_header_bytes: usize,
    /// Client connections of the whole process; one more is accepted, closed and counted.
    pub connections: usize,
    /// From the first byte a connection owes us to the end of the head; later is 408.
    pub request_header_timeout: Duration,
    /// A client connection without a request in flight is closed after this time.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_header_bytes: 64 << 10,
            connections: 10_000,
            request_header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
        }
    }
}

/// How each exchange is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLog {
    /// One JSON object or one line of text for each exchange.
    pub format: AccessLogFormat,
    /// `stdout`, `stderr` or a file's path.
    pub path: String,
    /// CEL over the attributes; only exchanges for which it is true are recorded. Compiled by `observe`.
    pub filter: Option<String>,
    /// More fields by name: CEL over the attributes. Compiled by `observe`.
    pub fields: BTreeMap<String, String>,
}

/// Form of an access log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One object a line.
    #[default]
    Json,
    /// Fields in a fixed order, separated by blanks.
    Text,
}

impl Snapshot {
    /// Proves that every index is in range, so that nothing on the request path has to, and that no filter stands where none runs.
    ///
    /// # Errors
    /// The first that is not so, in words.
    pub fn check(&self) -> Result<(), String> {
        let filter = |index: &FilterIndex| {
            (*index < self.filters.len())
                .then_some(())
                .ok_or(format!("filter index {index} is out of range"))
        };
        for listener in &self.listeners {
            listener.filters.iter().try_for_each(filter)?;
        }
        for route in &self.tcp_routes {
            let listeners = route.listeners.iter().all(|index| *index < self.listeners.len());
            let mut backends = route.backends.iter().filter_map(|weighted| weighted.backend);
            if !listeners || backends.any(|index| index >= self.backends.len()) {
                return Err(format!("route {}: an index is out of range", route.name));
            }
        }
        for route in &self.routes {
            if let Some(index) =
                route.listeners.iter().find(|index| **index >= self.listeners.len())
            {
                return Err(format!(
                    "route {}: listener index {index} is out of range",
                    route.name
                ));
            }
            for rule in &route.rules {
                for route_filter in &rule.filters {
                    if let RouteFilter::Wasm(index) = route_filter {
                        filter(index)?;
                    }
                }
                let mut of_backends = rule.backends.iter().flat_map(|weighted| &weighted.filters);
                if of_backends.any(|filter| matches!(filter, RouteFilter::Wasm(_))) {
                    // It would be passed by.
                    return Err(format!("rule {}: a Wasm filter of a backend", rule.name));
                }
                let mut backends = rule.backends.iter().filter_map(|weighted| weighted.backend);
                if let Some(index) = backends.find(|index| *index >= self.backends.len()) {
                    return Err(format!(
                        "rule {}: backend index {index} is out of range",
                        rule.name
                    ));
                }
            }
        }
        Ok(())
    }
}
