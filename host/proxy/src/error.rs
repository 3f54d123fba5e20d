//! What the data plane refuses to take: configurations that cannot be brought to life, and TLS material that cannot be
//! used. Failures of single exchanges are not here, they are answered by `reply`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_vm::{Trap, TrapReason};

/// Why a snapshot was not published. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An address cannot be listened on.
    #[error("{}: listener {name}: cannot listen on {address}: {problem}", self.code())]
    Listener {
        /// Its name in the snapshot.
        name: String,
        /// The address as configured.
        address: SocketAddr,
        /// What the system said.
        problem: io::Error,
    },
    /// The access log cannot be written.
    #[error("{}: access log {path}: {problem}", self.code())]
    AccessLog {
        /// As configured.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// A filter did not start or did not accept its configuration.
    #[error("{}: filter {name}: {trap}", self.code())]
    Filter {
        /// `namespace/name`
        name: Arc<str>,
        /// What it died of.
        trap: Trap,
    },
    /// A worker did not answer in time.
    #[error("{}: worker {worker} does not answer", self.code())]
    Worker {
        /// Counts from 0.
        worker: usize,
    },
    /// The snapshot contradicts itself.
    #[error("{}: snapshot: {}", self.code(), .0)]
    Snapshot(String),
}

impl Refusal {
    /// The stable code that `portcullis explain` knows.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Listener { .. } => "P0501",
            Refusal::AccessLog { .. } => "P0502",
            Refusal::Filter { trap, .. } if trap.reason == TrapReason::Refused => "P0205",
            Refusal::Filter { .. } => "P0206",
            Refusal::Worker { .. } => "P0901",
            Refusal::Snapshot(_) => "P0902",
        }
    }
}

/// Why certificates, keys or names cannot be used for TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A PEM section cannot be decoded.
    #[error("the {what} is not valid PEM: {problem}")]
    Pem {
        /// `certificate`, `key` or `CA certificate`.
        what: &'static str,
        /// What the decoder said.
        problem: String,
    },
    /// A PEM text holds no certificate.
    #[error("there is no certificate in the {what}")]
    NoCertificate {
        /// `certificate` or `CA certificate`.
        what: &'static str,
    },
    /// A PEM text holds no private key.
    #[error("there is no private key in the key")]
    NoKey,
    /// The key is of a kind that cannot be used.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// Key and certificate are no pair.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// A certificate is no valid X.509.
    #[error("the {what} cannot be used: {problem}")]
    Certificate {
        /// `certificate` or `CA certificate`.
        what: &'static str,
        /// What the parser said.
        problem: String,
    },
    /// The name to verify is neither a DNS name nor an address.
    #[error("{0:?} is no host name")]
    Hostname(String),
}

impl TlsError {
    /// The stable code that `portcullis explain` knows.
    pub fn code(&self) -> &'static str {
        match self {
            TlsError::Pem { .. } | TlsError::NoCertificate { .. } | TlsError::NoKey => "P0601",
            TlsError::Key(_) | TlsError::KeyMismatch => "P0602",
            TlsError::Certificate { .. } => "P0603",
            TlsError::Hostname(_) => "P0604",
        }
    }
}
