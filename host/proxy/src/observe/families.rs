//! Every metric family of ours, in one place. Labels are bounded by the configuration, never by what clients send.

use super::metrics::{Counter, Family, Gauge, Histogram};

/// Exchanges that ended. `code` is 0 when no response was begun; `flags` are Envoy's abbreviations.
pub const REQUESTS: Family<Counter, 5> = Family::new(
    "portcullis_requests_total",
    "Exchanges that ended, by what answered them.",
    ["listener", "route", "backend", "code", "flags"],
);

/// From the request's head to the end of the response.
pub const REQUEST_DURATION: Family<Histogram, 2> = Family::new(
    "portcullis_request_duration_seconds",
    "Time from the head of the request to the end of the response.",
    ["listener", "route"],
);

/// Exchanges that have begun and not ended.
pub const REQUESTS_ACTIVE: Family<Gauge, 1> = Family::new(
    "portcullis_requests_active",
    "Exchanges that have begun and not ended.",
    ["listener"],
);

/// TCP connections that ended. `flags` are Envoy's abbreviations.
pub const TCP_CONNECTIONS: Family<Counter, 4> = Family::new(
    "portcullis_tcp_connections_total",
    "Connections without HTTP that ended, by where they went.",
    ["listener", "route", "backend", "flags"],
);

/// Bytes from clients of TCP connections.
pub const TCP_RECEIVED: Family<Counter, 2> = Family::new(
    "portcullis_tcp_received_bytes_total",
    "Bytes received from clients on connections without HTTP.",
    ["listener", "route"],
);

/// Bytes to clients of TCP connections.
pub const TCP_SENT: Family<Counter, 2> = Family::new(
    "portcullis_tcp_sent_bytes_total",
    "Bytes sent to clients on connections without HTTP.",
    ["listener", "route"],
);

/// Client connections that are open.
pub const CONNECTIONS_ACTIVE: Family<Gauge, 1> = Family::new(
    "portcullis_downstream_connections_active",
    "Client connections that are open.",
    ["listener"],
);

/// Client connections that were accepted.
pub const CONNECTIONS: Family<Counter, 1> = Family::new(
    "portcullis_downstream_connections_total",
    "Client connections that were accepted.",
    ["listener"],
);

/// Client connections over the limit.
pub const CONNECTIONS_REFUSED: Family<Counter, 1> = Family::new(
    "portcullis_downstream_connections_refused_total",
    "Client connections that were accepted and closed because there were too many.",
    ["listener"],
);

/// TLS handshakes with clients that failed.
pub const HANDSHAKES_FAILED: Family<Counter, 1> = Family::new(
    "portcullis_downstream_tls_failures_total",
    "TLS handshakes with clients that failed.",
    ["listener"],
);

/// Requests refused before they were exchanges; `kind` is a status (`400`, `408`, `414`, `431`) or a flood's name.
pub const PROTOCOL_ERRORS: Family<Counter, 2> = Family::new(
    "portcullis_downstream_protocol_errors_total",
    "Requests that were refused before any filter saw them, by kind.",
    ["listener", "kind"],
);

/// Connections to upstreams that are open.
pub const UPSTREAM_CONNECTIONS_ACTIVE: Family<Gauge, 1> = Family::new(
    "portcullis_upstream_connections_active",
    "Connections to upstreams that are open.",
    ["backend"],
);

/// Connections to upstreams that were opened.
pub const UPSTREAM_CONNECTIONS: Family<Counter, 1> = Family::new(
    "portcullis_upstream_connections_total",
    "Connections to upstreams that were opened.",
    ["backend"],
);

/// Connections to upstreams that could not be opened, TLS included.
pub const UPSTREAM_CONNECT_FAILURES: Family<Counter, 1> = Family::new(
    "portcullis_upstream_connect_failures_total",
    "Connections to upstreams that could not be opened, TLS included.",
    ["backend"],
);

/// Attempts after the first.
pub const RETRIES: Family<Counter, 1> = Family::new(
    "portcullis_upstream_retries_total",
    "Attempts after the first, by backend.",
    ["backend"],
);

/// `kind`: `request` for the whole exchange, `attempt` for one attempt.
pub const TIMEOUTS: Family<Counter, 2> = Family::new(
    "portcullis_upstream_timeouts_total",
    "Exchanges and attempts that took longer than their route allows.",
    ["backend", "kind"],
);

/// Exchanges that a filter saw.
pub const FILTER_EXCHANGES: Family<Counter, 1> =
    Family::new("portcullis_filter_exchanges_total", "Exchanges that the filter saw.", ["filter"]);

/// Exchanges that went on without a filter, or failed, because it could not run. `outcome`: `skipped` or `failed`.
pub const FILTER_UNAVAILABLE: Family<Counter, 2> = Family::new(
    "portcullis_filter_unavailable_total",
    "Exchanges that met the filter while it could not run, by what became of them.",
    ["filter", "outcome"],
);

/// Instances that died.
pub const FILTER_TRAPS: Family<Counter, 2> = Family::new(
    "portcullis_filter_traps_total",
    "Instances of the filter that died, by reason.",
    ["filter", "reason"],
);

/// 1 while the filter is suspended after too many traps.
pub const FILTER_SUSPENDED: Family<Gauge, 1> = Family::new(
    "portcullis_filter_suspended",
    "1 while the filter is suspended after too many traps, else 0.",
    ["filter"],
);

/// Live instances.
pub const FILTER_INSTANCES: Family<Gauge, 2> = Family::new(
    "portcullis_filter_instances",
    "Live instances of the filter.",
    ["filter", "generation"],
);

/// Linear memory of live instances.
pub const FILTER_MEMORY: Family<Gauge, 2> = Family::new(
    "portcullis_filter_memory_bytes",
    "Linear memory of the filter's live instances.",
    ["filter", "generation"],
);

/// Instances that serve one exchange at a time and have none.
pub const FILTER_IDLE: Family<Gauge, 2> = Family::new(
    "portcullis_filter_instances_idle",
    "Live instances of a filter with isolation EXCLUSIVE that no exchange has.",
    ["filter", "generation"],
);

/// Exchanges that wait for an instance of their own.
pub const FILTER_WAITING: Family<Gauge, 2> = Family::new(
    "portcullis_filter_waiting",
    "Exchanges that wait for an instance of a filter with isolation EXCLUSIVE.",
    ["filter", "generation"],
);

/// Exchanges that had to wait for an instance of their own. `outcome`: `served` or `expired`.
pub const FILTER_WAITS: Family<Counter, 2> = Family::new(
    "portcullis_filter_waits_total",
    "Exchanges that had to wait for an instance of their own, by what came of it.",
    ["filter", "outcome"],
);

/// Host calls made in a phase in which they mean nothing.
pub const PHASE_VIOLATIONS: Family<Counter, 3> = Family::new(
    "portcullis_filter_phase_violations_total",
    "Host calls that the filter made in a phase in which they mean nothing.",
    ["filter", "call", "phase"],
);

/// Metrics that a filter defined beyond its limit.
pub const GUEST_METRICS_REFUSED: Family<Counter, 1> = Family::new(
    "portcullis_filter_metrics_refused_total",
    "Metrics that the filter defined beyond its limit or with too long a name: folded into an overflow series, or without effect.",
    ["filter"],
);

/// The generation that new exchanges see.
pub const GENERATION: Family<Gauge, 0> =
    Family::new("portcullis_generation", "Number of the configuration that new exchanges see.", []);

/// `side`: `listener` or `backend`.
pub const CERTIFICATE_EXPIRY: Family<Gauge, 2> = Family::new(
    "portcullis_certificate_expiry_timestamp_seconds",
    "When the certificate ends, in seconds since 1970.",
    ["side", "name"],
);

/// Access log records that found the queue full or could not be written.
pub const LOG_DROPPED: Family<Counter, 1> = Family::new(
    "portcullis_log_lines_dropped_total",
    "Log lines that found the queue full or could not be written.",
    ["log"],
);

/// `direction`: `request` or `response`.
pub const TRAILERS_DROPPED: Family<Counter, 1> = Family::new(
    "portcullis_trailers_dropped_total",
    "Trailers that the receiving side has no way to take.",
    ["direction"],
);
