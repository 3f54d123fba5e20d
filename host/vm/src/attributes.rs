//! What `proxy_get_property` answers from, beyond the heads of the exchange, and how values are encoded for guests.
//!
//! Names and types are those of Envoy's attribute list; the byte encodings are Envoy's `serializeValue`. docs/attributes.md
//! lists all of them.

mod node;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::abi::pairs::{self, Pairs};
pub use node::Node;

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

impl Attribute {
    /// The bytes that a guest gets.
    pub fn encode(self) -> Vec<u8> {
        match self {
            Attribute::Bytes(bytes) => bytes,
            Attribute::Int(number) => number.to_le_bytes().to_vec(),
            Attribute::Uint(number) => number.to_le_bytes().to_vec(),
            Attribute::Bool(truth) => vec![u8::from(truth)],
            Attribute::Timestamp(time) => {
                let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                nanoseconds(since).to_le_bytes().to_vec()
            }
            Attribute::Duration(duration) => nanoseconds(duration).to_le_bytes().to_vec(),
            Attribute::Map(map) if map.is_empty() => 0_u32.to_le_bytes().to_vec(),
            Attribute::Map(map) => {
                let map = Entries(map);
                let mut bytes = vec![0; pairs::measure(&map).1];
                pairs::encode(&map, &mut bytes);
                bytes
            }
        }
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

struct Entries(Vec<(Vec<u8>, Vec<u8>)>);

impl Pairs for Entries {
    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.iter().for_each(|(key, value)| visit(key, value));
    }
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
    /// The peer's certificate, DER.
    pub peer_certificate: Option<Bytes>,
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
    /// `None` on plain connections, which shall take little room.
    pub tls: Option<Box<TlsAttributes>>,
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
    pub code_details: Option<Cow<'static, str>>,
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
    /// `upstream.num_endpoints`
    pub endpoints: Option<u64>,
    /// `upstream.cx_pool_ready_duration`: how long the request waited for its connection.
    pub pool_ready: Option<Duration>,
    /// `response.backend_latency`: from the moment the request left to the last byte of its response.
    pub backend_latency: Option<Duration>,
    /// `xds.virtual_host_name`: the hostname that selected the route, `*` for any.
    pub virtual_host: Option<Arc<str>>,
    /// `xds.filter_chain_name`: the listener.
    pub listener: Option<Arc<str>>,
}

impl Attributes {
    /// At the beginning, when nothing is known but the connection.
    #[inline]
    pub fn new(connection: Arc<ConnectionAttributes>, started: SystemTime) -> Attributes {
        Attributes {
            client: connection.peer,
            connection,
            listener_direction: 0,
            protocol: "",
            started,
            duration: None,
            request_bytes: 0,
            response_bytes: 0,
            code_details: None,
            response_flags: 0,
            route_name: None,
            cluster_name: None,
            upstream_hosts: Vec::new(),
            upstream: None,
            attempts: 0,
            upstream_failure: None,
            endpoints: None,
            pool_ready: None,
            backend_latency: None,
            virtual_host: None,
            listener: None,
        }
    }
}
