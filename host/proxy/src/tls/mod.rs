//! TLS on both sides: what a listener presents and demands, what a backend connection verifies. The only module that
//! names rustls. It is handed PEM texts, reads no file, and keeps no private key beyond what rustls holds.

mod certificate;
mod hello;
mod pem;
mod session;

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};

use certificate::Leaf;

pub use crate::error::TlsError;
pub use hello::{Hello, hello};
pub use session::{Accepted, Connected, Stream, accept, connect};

const H2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// What a TLS listener presents, and what it demands of clients.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    own: Arc<Leaf>,
    material: Material,
}

/// What a TLS connection to a backend presents and demands.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    hostname: String,
    own: Option<Arc<Leaf>>,
    material: Material,
}

/// The HTTP versions to offer, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2, else HTTP/1.1.
    Any,
    /// HTTP/2 alone.
    H2,
    /// HTTP/1.1 alone, as upgrades need it.
    Http1,
    /// None: what is spoken is not for us to say.
    Nothing,
}

/// A digest of everything that a configuration was made of.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Material([u8; 32]);

impl ServerTls {
    /// A listener's TLS: `cert` is the chain, leaf first. With `client_ca`, every client has to present a certificate
    /// that one of these signed. Offers HTTP/2 and HTTP/1.1. All texts are PEM.
    ///
    /// # Errors
    /// What is missing, unreadable, or does not fit together. An expired certificate is no error, see
    /// [`expires_at`](Self::expires_at).
    pub fn from_pem(
        cert: &[u8],
        key: &[u8],
        client_ca: Option<&[u8]>,
    ) -> Result<ServerTls, TlsError> {
        let (chain, private, own) = identity(cert, key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|problem| TlsError::Key(problem.to_string()))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(text) => {
                let roots = Arc::new(pem::roots(text)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|problem| pem::unusable(pem::CA, problem))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, private).map_err(mismatch)?;
        config.alpn_protocols = protocols(Alpn::Any);
        // Tickets need no memory of ours, and no lock that handshakes of several workers would meet at.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer =
            ring::Ticketer::new().map_err(|problem| TlsError::Key(problem.to_string()))?;
        let material = Material::of(&[cert, key, client_ca.unwrap_or_default()]);
        Ok(ServerTls { config: Arc::new(config), own: Arc::new(own), material })
    }

    /// For a listener that does not speak HTTP: takes whatever protocols clients offer, and agrees on none.
    #[must_use]
    pub fn for_bytes(&self) -> ServerTls {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = protocols(Alpn::Nothing);
        ServerTls { config: Arc::new(config), ..self.clone() }
    }

    /// Whether both were made of the same texts.
    pub fn same_material(&self, other: &ServerTls) -> bool {
        self.material == other.material
    }

    /// When the leaf certificate expires, in seconds since the Unix epoch.
    pub fn expires_at(&self) -> i64 {
        self.own.not_after
    }
}

impl ClientTls {
    /// TLS towards a backend that has to prove `hostname` (a DNS name or an address), and to which we prove `identity`
    /// (certificate chain and key) if it asks. Without `ca`, the roots of Mozilla's programme as compiled in are
    /// trusted: the data plane reads no file, and minimal images have none. All texts are PEM.
    ///
    /// # Errors
    /// What is missing, unreadable, or does not fit together.
    pub fn from_pem(
        hostname: &str,
        ca: Option<&[u8]>,
        identity: Option<(&[u8], &[u8])>,
    ) -> Result<ClientTls, TlsError> {
        let name = ServerName::try_from(hostname.to_owned())
            .map_err(|_| TlsError::Hostname(hostname.to_owned()))?;
        let roots = match ca {
            Some(text) => pem::roots(text)?,
            None => RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|problem| pem::unusable(pem::CA, problem))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|problem| TlsError::Key(problem.to_string()))?
            .with_webpki_verifier(verifier);
        let (config, own) = match identity {
            None => (builder.with_no_client_auth(), None),
            Some((cert, key)) => {
                let (chain, private, own) = self::identity(cert, key)?;
                let config = builder.with_client_auth_cert(chain, private).map_err(mismatch)?;
                (config, Some(Arc::new(own)))
            }
        };
        let (cert, key) = identity.unwrap_or_default();
        let material = Material::of(&[hostname.as_bytes(), ca.unwrap_or_default(), cert, key]);
        let hostname = hostname.to_owned();
        Ok(ClientTls { config: Arc::new(config), name, hostname, own, material })
    }

    /// What the server has to prove.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Whether both were made of the same texts and names.
    pub fn same_material(&self, other: &ClientTls) -> bool {
        self.material == other.material
    }

    /// When our own certificate expires, in seconds since the Unix epoch; `None` without one.
    pub fn expires_at(&self) -> Option<i64> {
        self.own.as_ref().map(|leaf| leaf.not_after)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("subject", &self.own.subject).finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

impl Material {
    /// Lengths go in as well, so that no two lists of texts run together.
    fn of(texts: &[&[u8]]) -> Material {
        let mut hash = Sha256::new();
        for text in texts {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        Material(hash.finalize().into())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn protocols(alpn: Alpn) -> Vec<Vec<u8>> {
    match alpn {
        Alpn::Any => vec![H2.to_vec(), HTTP_1.to_vec()],
        Alpn::H2 => vec![H2.to_vec()],
        Alpn::Http1 => vec![HTTP_1.to_vec()],
        Alpn::Nothing => Vec::new(),
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Leaf);

fn identity(cert: &[u8], key: &[u8]) -> Result<Identity, TlsError> {
    let chain = pem::certificates(pem::CERTIFICATE, cert)?;
    let own = match chain.first() {
        Some(leaf) => {
            Leaf::read(leaf).map_err(|problem| pem::unusable(pem::CERTIFICATE, problem))?
        }
        None => return Err(TlsError::NoCertificate { what: pem::CERTIFICATE }),
    };
    Ok((chain, pem::key(key)?, own))
}

fn mismatch(problem: rustls::Error) -> TlsError {
    match problem {
        rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => {
            TlsError::KeyMismatch
        }
        rustls::Error::InvalidCertificate(problem) => {
            pem::unusable(pem::CERTIFICATE, format!("{problem:?}"))
        }
        problem => TlsError::Key(problem.to_string()),
    }
}
