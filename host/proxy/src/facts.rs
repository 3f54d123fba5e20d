//! What is known of an exchange once it is over: the one record that access log and metrics are written from.
//!
//! A record owns small copies, never slices of a connection's read buffer: it may wait in a queue while the connection
//! goes on. It knows nothing of how it is written.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};

/// Why an exchange did not go the usual way: Envoy's response flags, with Envoy's bits and abbreviations
/// (`envoy/stream_info/stream_info.h`, `CoreResponseFlag`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u64);

/// Bit, abbreviation; in the order of Envoy's enumeration.
const NAMES: &[(Flags, &str)] = &[
    (Flags::NO_HEALTHY_UPSTREAM, "UH"),
    (Flags::UPSTREAM_TIMEOUT, "UT"),
    (Flags::LOCAL_RESET, "LR"),
    (Flags::UPSTREAM_RESET, "UR"),
    (Flags::UPSTREAM_CONNECTION_FAILURE, "UF"),
    (Flags::UPSTREAM_CONNECTION_TERMINATION, "UC"),
    (Flags::UPSTREAM_OVERFLOW, "UO"),
    (Flags::NO_ROUTE, "NR"),
    (Flags::DELAY_INJECTED, "DI"),
    (Flags::FAULT_INJECTED, "FI"),
    (Flags::RATE_LIMITED, "RL"),
    (Flags::UNAUTHORIZED, "UAEX"),
    (Flags::DOWNSTREAM_TERMINATION, "DC"),
    (Flags::RETRY_LIMIT, "URX"),
    (Flags::IDLE_TIMEOUT, "SI"),
    (Flags::DOWNSTREAM_PROTOCOL_ERROR, "DPE"),
    (Flags::NO_FILTER, "NFCF"),
    (Flags::DURATION_TIMEOUT, "DT"),
    (Flags::UPSTREAM_PROTOCOL_ERROR, "UPE"),
    (Flags::NO_CLUSTER, "NC"),
    (Flags::OVERLOAD, "OM"),
    (Flags::DNS_FAILURE, "DF"),
    (Flags::DOWNSTREAM_RESET, "DR"),
];

impl Flags {
    /// `UH`: no endpoint to send to.
    pub const NO_HEALTHY_UPSTREAM: Flags = Flags(1 << 1);
    /// `UT`: an attempt or the exchange took too long upstream.
    pub const UPSTREAM_TIMEOUT: Flags = Flags(1 << 2);
    /// `LR`: we reset the stream.
    pub const LOCAL_RESET: Flags = Flags(1 << 3);
    /// `UR`: the upstream reset the stream.
    pub const UPSTREAM_RESET: Flags = Flags(1 << 4);
    /// `UF`: no connection to the upstream.
    pub const UPSTREAM_CONNECTION_FAILURE: Flags = Flags(1 << 5);
    /// `UC`: the upstream closed the connection.
    pub const UPSTREAM_CONNECTION_TERMINATION: Flags = Flags(1 << 6);
    /// `UO`: a limit on the upstream was met.
    pub const UPSTREAM_OVERFLOW: Flags = Flags(1 << 7);
    /// `NR`: no route matched.
    pub const NO_ROUTE: Flags = Flags(1 << 8);
    /// `DI`: a filter delayed the request on purpose.
    pub const DELAY_INJECTED: Flags = Flags(1 << 9);
    /// `FI`: a filter answered with an error on purpose.
    pub const FAULT_INJECTED: Flags = Flags(1 << 10);
    /// `RL`: refused by a rate limit.
    pub const RATE_LIMITED: Flags = Flags(1 << 11);
    /// `UAEX`: refused by an external authorizer.
    pub const UNAUTHORIZED: Flags = Flags(1 << 12);
    /// `DC`: the client closed the connection.
    pub const DOWNSTREAM_TERMINATION: Flags = Flags(1 << 14);
    /// `URX`: all retries spent.
    pub const RETRY_LIMIT: Flags = Flags(1 << 15);
    /// `SI`: nothing happened for too long.
    pub const IDLE_TIMEOUT: Flags = Flags(1 << 16);
    /// `DPE`: the client broke the protocol.
    pub const DOWNSTREAM_PROTOCOL_ERROR: Flags = Flags(1 << 18);
    /// `NFCF`: a filter that the route names is missing.
    pub const NO_FILTER: Flags = Flags(1 << 21);
    /// `DT`: the exchange took longer than it may.
    pub const DURATION_TIMEOUT: Flags = Flags(1 << 22);
    /// `UPE`: the upstream broke the protocol.
    pub const UPSTREAM_PROTOCOL_ERROR: Flags = Flags(1 << 23);
    /// `NC`: the backend does not exist.
    pub const NO_CLUSTER: Flags = Flags(1 << 24);
    /// `OM`: we are overloaded.
    pub const OVERLOAD: Flags = Flags(1 << 25);
    /// `DF`: the endpoint's name did not resolve.
    pub const DNS_FAILURE: Flags = Flags(1 << 26);
    /// `DR`: the client reset the stream.
    pub const DOWNSTREAM_RESET: Flags = Flags(1 << 28);

    /// No flag.
    pub const fn none() -> Flags {
        Flags(0)
    }

    /// Sets all flags of `other`.
    pub fn insert(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    /// Whether all flags of `other` are set.
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no flag is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Envoy's bit set, as the attribute `response.flags` shows it.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Flags {
    /// Abbreviations separated by commas; `-` when there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (flag, name) in NAMES {
            if self.contains(*flag) {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        if separator.is_empty() { f.write_str("-") } else { Ok(()) }
    }
}

/// What a filter did to an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Let it pass, changed or not.
    Continued,
    /// Answered the client itself.
    Replied,
    /// Reset the exchange.
    Closed,
    /// Could not run, and the exchange went on without it.
    Skipped,
    /// Could not run, and the exchange failed.
    Failed,
}

impl Verdict {
    /// As the access log names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Continued => "continued",
            Verdict::Replied => "replied",
            Verdict::Closed => "closed",
            Verdict::Skipped => "skipped",
            Verdict::Failed => "failed",
        }
    }
}

/// A short copy of bytes that a client or an upstream sent; not necessarily UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Box<[u8]>);

impl Text {
    /// Longer input is cut; a record must stay small.
    pub const MAX: usize = 4096;

    /// The first [`Text::MAX`] bytes of `bytes`.
    pub fn of(bytes: &[u8]) -> Text {
        Text(bytes.get(..Text::MAX).unwrap_or(bytes).into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text::of(text.as_bytes())
    }
}

/// The request of an exchange, as the client sent it.
#[derive(Clone, Debug)]
pub struct Request {
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`
    pub protocol: &'static str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Method.
    pub method: Method,
    /// Authority or Host.
    pub authority: Text,
    /// Path with query.
    pub path: Text,
}

/// One exchange or TCP connection, over.
#[derive(Clone, Debug)]
pub struct Record {
    /// Arrival of the request's head, or of the connection.
    pub started: SystemTime,
    /// From `started` to the last byte of the response, or to the end of the exchange.
    pub duration: Duration,
    /// From the moment the request left for the upstream to the head of its response.
    pub upstream_duration: Option<Duration>,
    /// Generation that served the exchange.
    pub generation: u64,
    /// Listener's name.
    pub listener: Arc<str>,
    /// Rule's name.
    pub route: Option<Arc<str>>,
    /// Backend's name.
    pub backend: Option<Arc<str>>,
    /// Endpoint of the last attempt.
    pub upstream_peer: Option<SocketAddr>,
    /// Our end of the connection to it.
    pub upstream_local: Option<SocketAddr>,
    /// Why the last attempt failed below HTTP.
    pub upstream_failure: Option<Text>,
    /// Requests sent upstream, retries included.
    pub attempts: u32,
    /// Other end of the client's connection.
    pub peer: SocketAddr,
    /// Our end of the client's connection.
    pub local: SocketAddr,
    /// The client's address as `x-forwarded-for` and the trusted hops give it.
    pub client: SocketAddr,
    /// Server name that the client asked for in TLS.
    pub server_name: Option<Text>,
    /// The client proved an identity by certificate.
    pub mutual_tls: bool,
    /// What only HTTP has; `None` for TCP connections.
    pub request: Option<Request>,
    /// `user-agent`
    pub user_agent: Option<Text>,
    /// `x-forwarded-for`
    pub forwarded_for: Option<Text>,
    /// `x-request-id`
    pub request_id: Option<Text>,
    /// Bytes received from the client, of HTTP those of the body.
    pub request_bytes: u64,
    /// Status sent to the client; `None` if it ended before one could be.
    pub status: Option<StatusCode>,
    /// `grpc-status` of a gRPC exchange.
    pub grpc_status: Option<u32>,
    /// Bytes sent to the client, of HTTP those of the body.
    pub response_bytes: u64,
    /// What went wrong.
    pub flags: Flags,
    /// Why the response is what it is; `via_upstream` for the upstream's own.
    pub details: Option<Text>,
    /// Stable code of a reply that `reply` made.
    pub code: Option<&'static str>,
    /// What each filter did, in the order of the request.
    pub filters: Vec<(Arc<str>, Verdict)>,
    /// What filters stored, as far as the access log reads it: whole name and value.
    pub stored: Vec<(Arc<str>, Text)>,
}

impl Record {
    /// Bytes that the record keeps alive, about.
    pub fn weight(&self) -> usize {
        let optional = [
            &self.upstream_failure,
            &self.server_name,
            &self.user_agent,
            &self.forwarded_for,
            &self.request_id,
            &self.details,
        ];
        let stored: usize =
            self.stored.iter().map(|(_, text)| size_of::<(Arc<str>, Text)>() + text.0.len()).sum();
        let optional: usize = optional.into_iter().flatten().map(|text| text.0.len()).sum();
        size_of::<Record>()
            + self
                .request
                .as_ref()
                .map_or(0, |request| request.authority.0.len() + request.path.0.len())
            + optional
            + stored
            + self.filters.len() * size_of::<(Arc<str>, Verdict)>()
    }
}

/// A number for a new connection, on either side; counts from 1 in the process.
pub fn next_connection_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
