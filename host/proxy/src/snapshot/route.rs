//! What routes are: which requests match, what is done to them, and where they go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use regex::Regex;

use super::{BackendIndex, FilterIndex, ListenerIndex};

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
