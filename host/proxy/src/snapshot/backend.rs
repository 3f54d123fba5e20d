//! What backends are: endpoints, and how they are spoken to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_vm::UpstreamHost;

use crate::tls::ClientTls;

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
