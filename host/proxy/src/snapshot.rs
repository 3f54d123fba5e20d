//! The immutable configuration that everything reads. Built by the program's `plan`, checked there; a published
//! snapshot is never modified.
//!
//! Cross references are indices into the vectors of the same [`Snapshot`]; [`Snapshot::check`] proves them in range.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use portcullis_vm::{LogLevel, Module, Node, PluginSpec, UpstreamHost};
use regex::Regex;

use crate::tls::{ClientTls, ServerTls};

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

/// An HTTPRoute or GRPCRoute.
#[derive(Clone, Debug)]
pub struct Route {
    /// `namespace/name`
    pub name: Arc<str>,
    /// Which of the two kinds.
    pub kind: RouteKind,
    /// The listeners it is attached to.
    pub listeners: Vec<ListenerIndex>,
    /// Lower case, without port, possibly with a leading `*.`; empty means every host.
    pub hostnames: Vec<String>,
    /// Seconds since the epoch; orders routes of equal rank, oldest first.
    pub created: Option<i64>,
    /// In document order.
    pub rules: Vec<Arc<Rule>>,
}

/// Which kind of route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// HTTPRoute
    Http,
    /// GRPCRoute; failures are answered as gRPC.
    Grpc,
}

/// One rule of a route.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// For metrics and logs: the rule's own name, or `namespace/name/index`.
    pub name: Arc<str>,
    /// Any of these; empty matches everything.
    pub matches: Vec<Match>,
    /// In listed order.
    pub filters: Vec<RouteFilter>,
    /// Shares are `weight / sum of weights`. Empty with no redirect: 500.
    pub backends: Vec<WeightedBackend>,
    /// For the exchange and for each attempt.
    pub timeouts: Timeouts,
    /// `None`: no retry (but a dead reused connection is replaced where that is safe).
    pub retry: Option<Retry>,
    /// Set when the rule was accepted but cannot work (an unsupported field, a missing filter): every request is
    /// answered 500 and this is the reason.
    pub broken: Option<String>,
}

/// All parts must match.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// `None`: every path.
    pub path: Option<PathMatch>,
    /// For GRPCRoutes, instead of `path`.
    pub grpc: Option<GrpcMatch>,
    /// `None`: every method.
    pub method: Option<Method>,
    /// Names are unique.
    pub headers: Vec<HeaderMatch>,
    /// Names are unique.
    pub query: Vec<QueryMatch>,
}

/// A TCPRoute or TLSRoute, with its one rule.
#[derive(Clone, Debug)]
pub struct TcpRoute {
    /// `namespace/name`
    pub name: Arc<str>,
    /// The listeners it is attached to.
    pub listeners: Vec<ListenerIndex>,
    /// Server names of TLS in lower case, possibly with a leading `*.`; empty means every connection.
    pub hostnames: Vec<String>,
    /// Shares are `weight / sum of weights`; none of them has filters.
    pub backends: Vec<WeightedBackend>,
}

/// How a path is compared.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// Byte for byte.
    Exact(String),
    /// By whole segments; a trailing slash is ignored.
    Prefix(String),
    /// The whole path must match (the `regex` crate's dialect).
    Regex(Regex),
}

/// How a gRPC method is compared; `None` matches every one.
#[derive(Clone, Debug)]
pub struct GrpcMatch {
    /// `package.Service`
    pub service: Option<ValueMatch>,
    /// Method name.
    pub method: Option<ValueMatch>,
}

/// A header by name.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// Header's name; `wasm.NAME` is the property `NAME` that a filter stored, whatever the client sends.
    pub name: HeaderName,
    /// Its value; repeated headers are joined with `,`.
    pub value: ValueMatch,
}

/// A query parameter by name; of a repeated one, the first counts.
#[derive(Clone, Debug)]
pub struct QueryMatch {
    /// Exact, after percent-decoding.
    pub name: String,
    /// Its value, after percent-decoding.
    pub value: ValueMatch,
}

/// How a value is compared.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// Byte for byte.
    Exact(String),
    /// The whole value must match.
    Regex(Regex),
}

/// A filter of a rule or of a backend reference.
#[derive(Clone, Debug)]
pub enum RouteFilter {
    /// RequestHeaderModifier
    RequestHeaders(HeaderModifier),
    /// ResponseHeaderModifier
    ResponseHeaders(HeaderModifier),
    /// RequestRedirect
    Redirect(Redirect),
    /// URLRewrite
    Rewrite(Rewrite),
    /// ExtensionRef to a WasmFilter with `attach: ROUTE`.
    Wasm(FilterIndex),
}

/// Edits of a header map, applied in the order set, add, remove.
#[derive(Clone, Debug, Default)]
pub struct HeaderModifier {
    /// Replace.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Append.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Remove.
    pub remove: Vec<HeaderName>,
}

/// RequestRedirect. What is absent stays as the request had it.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Host of the Location.
    pub hostname: Option<String>,
    /// Path of the Location.
    pub path: Option<PathModifier>,
    /// Absent: the scheme's own port if `scheme` is set, else the listener's.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// URLRewrite.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// New authority.
    pub hostname: Option<String>,
    /// New path.
    pub path: Option<PathModifier>,
}

/// How a path is replaced; the query stays.
#[derive(Clone, Debug)]
pub enum PathModifier {
    /// ReplaceFullPath
    Full(String),
    /// ReplacePrefixMatch; the matched prefix is that of the match that selected the rule.
    Prefix(String),
}

/// A share of a rule's traffic.
#[derive(Clone, Debug)]
pub struct WeightedBackend {
    /// `None`: the reference is invalid, its share is answered 500.
    pub backend: Option<BackendIndex>,
    /// As the document names it, for messages.
    pub reference: String,
    /// 0 takes no traffic.
    pub weight: u32,
    /// Run after those of the rule; no `Wasm`, no `Redirect`.
    pub filters: Vec<RouteFilter>,
}

/// `None` means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole exchange, retries included.
    pub request: Option<Duration>,
    /// One attempt.
    pub backend_request: Option<Duration>,
}

/// When a failed attempt is repeated. Connection errors always are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Statuses that count as failed.
    pub codes: BTreeSet<u16>,
    /// Retries at the most.
    pub attempts: u32,
    /// Shortest wait before a retry; doubled for each further one, with jitter on top.
    pub backoff: Duration,
}

/// Endpoints that are the same service.
#[derive(Clone, Debug)]
pub struct Backend {
    /// `namespace/name`
    pub name: Arc<str>,
    /// What is spoken to the endpoints.
    pub protocol: BackendProtocol,
    /// Round robin by weight.
    pub endpoints: Vec<Endpoint>,
    /// Present for HTTPS and H2, possible for TCP and Redis.
    pub tls: Option<Arc<ClientTls>>,
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// An unused connection is closed after this time.
    pub idle_timeout: Duration,
}

/// What is spoken to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendProtocol {
    /// HTTP/1.1
    Http,
    /// HTTP/2 with prior knowledge.
    H2c,
    /// TLS; HTTP/2 or HTTP/1.1 by ALPN.
    Https,
    /// HTTP/2 over TLS.
    H2,
    /// Bytes; no HTTP, and so nothing that an HTTPRoute or a guest's call can use.
    Tcp,
    /// Redis, for the commands of guests; nothing that an HTTPRoute can use.
    Redis,
}

/// One address of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Relative share, at least 1.
    pub weight: u32,
}

impl Endpoint {
    /// As guests see it.
    pub fn host(&self) -> UpstreamHost {
        let address = match &self.address {
            EndpointAddress::Ip(address) => address.to_string(),
            EndpointAddress::Dns(name, port) => format!("{name}:{port}"),
        };
        UpstreamHost { address: address.into(), weight: self.weight }
    }
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointAddress {
    /// Known.
    Ip(SocketAddr),
    /// To be resolved, again and again.
    Dns(String, u16),
}

/// A WasmFilter.
#[derive(Clone, Debug)]
pub struct Filter {
    /// `namespace/name`
    pub name: Arc<str>,
    /// As the document names it.
    pub url: String,
    /// The compiled module.
    pub module: Arc<Module>,
    /// What an instance is started with.
    pub plugin: Arc<PluginSpec>,
    /// What happens when the filter cannot run.
    pub fail: FailStrategy,
    /// Who shares an instance.
    pub isolation: Isolation,
    /// Upstream names it may call.
    pub allow_calls: AllowCalls,
    /// The lowest level of its log records that is kept.
    pub log_level: LogLevel,
    /// The proxy that it runs in, as it sees it.
    pub node: Arc<Node>,
}

/// What happens to an exchange whose filter cannot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailStrategy {
    /// 503.
    Close,
    /// The filter is skipped for the rest of the exchange.
    Open,
}

/// Who shares an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// One instance for each worker.
    Shared,
    /// One instance for each exchange in flight.
    Exclusive(InstanceLimits),
}

/// How many exchanges have an instance of their own, and what becomes of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceLimits {
    /// The most instances that a worker has, at least 1.
    pub instances: usize,
    /// How long an exchange waits for one to come free; then the `failStrategy` answers.
    pub wait: Duration,
}

impl Default for InstanceLimits {
    fn default() -> InstanceLimits {
        InstanceLimits { instances: 64, wait: Duration::from_secs(1) }
    }
}

/// Upstream names a filter may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowCalls {
    /// All that exist.
    Everything,
    /// These.
    Only(BTreeSet<String>),
}

impl Filter {
    /// Whether a running plugin of `other` can serve as one of this filter.
    pub fn same_plugin(&self, other: &Filter) -> bool {
        self.name == other.name
            && self.module.digest() == other.module.digest()
            && self.plugin == other.plugin
            && self.fail == other.fail
            && self.isolation == other.isolation
            && self.allow_calls == other.allow_calls
            && self.log_level == other.log_level
            && self.node == other.node
    }
}

impl Backend {
    /// Whether connections to `other` can serve this backend.
    pub fn same_endpoints(&self, other: &Backend) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => ours.same_material(theirs),
            _ => false,
        };
        self.name == other.name
            && self.protocol == other.protocol
            && self.endpoints == other.endpoints
            && self.connect_timeout == other.connect_timeout
            && self.idle_timeout == other.idle_timeout
            && same_tls
    }
}

impl Snapshot {
    /// Proves that every index is in range, so that nothing on the request path has to.
    ///
    /// # Errors
    /// The first reference that points nowhere, in words.
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
