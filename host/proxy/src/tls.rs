//! TLS on both sides: what a listener presents and demands, what a backend connection verifies.

/// What a TLS listener presents, and what it demands of clients.
#[derive(Clone, Debug)]
pub struct ServerTls;

/// What a TLS connection to a backend presents and demands.
#[derive(Clone, Debug)]
pub struct ClientTls;

impl ClientTls {
    /// Whether both were made of the same certificates, keys and names.
    pub fn same_material(&self, _other: &ClientTls) -> bool {
        todo!()
    }
}
