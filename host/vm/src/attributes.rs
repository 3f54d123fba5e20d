//! What `proxy_get_property` answers from, beyond the heads of the exchange, and how values are encoded for guests.
//!
//! Names and types are those of Envoy's attribute list; the byte encodings are Envoy's `serializeValue`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// One attribute value.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// Raw bytes, no terminator.
    Bytes(Vec<u8>),
    /// 8 bytes, little-endian, signed.
    Int(i64),
    /// 8 bytes, little-endian, unsigned.
    Uint(u64),
    /// One byte, 0 or 1.
    Bool(bool),
    /// Nanoseconds since the Unix epoch as [`Attribute::Int`].
    Timestamp(SystemTime),
    /// Nanoseconds as [`Attribute::Int`].
    Duration(Duration),
    /// The map format of the ABI.
    Map(Vec<(Vec<u8>, Vec<u8>)>),
}

/// What is known of a TLS session.
#[derive(Clone, Debug, Default)]
pub struct TlsAttributes {
    /// `TLSv1.2`, `TLSv1.3`
    pub version: String,
    /// Server name that the client asked for.
    pub server_name: Option<String>,
    /// The peer proved an identity by certificate.
    pub mutual: bool,
    /// Subject of the peer's certificate, RFC 2253.
    pub peer_subject: Option<String>,
    /// DNS names of the peer's certificate.
    pub peer_dns_names: Vec<String>,
    /// URI names of the peer's certificate, SPIFFE identities among them.
    pub peer_uris: Vec<String>,
    /// SHA-256 of the peer's certificate, lower-case hex.
    pub peer_digest: Option<String>,
    /// Subject of our own certificate.
    pub local_subject: Option<String>,
    /// DNS names of our own certificate.
    pub local_dns_names: Vec<String>,
    /// URI names of our own certificate.
    pub local_uris: Vec<String>,
}

/// A connection, shared by its exchanges.
#[derive(Clone, Debug)]
pub struct ConnectionAttributes {
    /// Counts from 1 in the process.
    pub id: u64,
    /// The peer on the other end of the connection.
    pub peer: SocketAddr,
    /// Our end of the connection.
    pub local: SocketAddr,
    /// `None` on plain connections.
    pub tls: Option<TlsAttributes>,
}

/// An endpoint of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHost {
    /// `ADDRESS:PORT` or `NAME:PORT`, as guests choose it.
    pub address: Arc<str>,
    /// Share of the requests that it gets otherwise.
    pub weight: u32,
}

/// What the embedder knows of an exchange at the moment of a callback. Absent values are NotFound for the guest.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// `source.*`, `destination.*`, `connection.*`
    pub connection: Arc<ConnectionAttributes>,
    /// The client's address as `x-forwarded-for` and the trusted hops give it; `source.address`.
    pub client: SocketAddr,
    /// `listener_direction`: 0 unspecified, 1 inbound, 2 outbound
    pub listener_direction: i64,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`
    pub protocol: &'static str,
    /// `request.time`
    pub started: SystemTime,
    /// `request.duration`, once the exchange is complete.
    pub duration: Option<Duration>,
    /// `request.size`: body bytes received so far.
    pub request_bytes: u64,
    /// `response.size`: body bytes sent so far.
    pub response_bytes: u64,
    /// `response.code_details`
    pub code_details: Option<String>,
    /// `response.flags`, Envoy's bit set.
    pub response_flags: u64,
    /// `route_name`, `xds.route_name`
    pub route_name: Option<Arc<str>>,
    /// `cluster_name`, `xds.cluster_name`: the backend.
    pub cluster_name: Option<Arc<str>>,
    /// Where the route may send the request, backend by backend: `proxy_get_upstream_hosts`.
    pub upstream_hosts: Vec<Arc<[UpstreamHost]>>,
    /// `upstream.*`, once connected.
    pub upstream: Option<Arc<ConnectionAttributes>>,
    /// `upstream.request_attempt_count`
    pub attempts: u64,
    /// `upstream.transport_failure_reason`
    pub upstream_failure: Option<String>,
}
