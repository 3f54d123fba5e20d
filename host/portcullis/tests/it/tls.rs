//! An authority of the tests, what it signs, and clients that trust it alone.

use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::program::PATIENCE;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    own: CertificateDer<'static>,
    /// Its certificate.
    pub pem: String,
}

/// A certificate for `localhost`, and its key.
pub struct Pair {
    pub certificate: String,
    pub key: String,
    pub der: CertificateDer<'static>,
}

pub type Connection = BufReader<StreamOwned<ClientConnection, TcpStream>>;

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let (pem, own) = (own.pem(), own.der().clone());
        Authority { issuer: Issuer::new(params, key), own, pem }
    }

    pub fn pair(&self) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate: signed.pem(), key: key.serialize_pem(), der: signed.der().clone() }
    }

    /// A connection after its handshake; `identity` is what the client presents.
    pub fn connect(&self, to: SocketAddr, identity: Option<&Pair>) -> io::Result<Connection> {
        let mut roots = RootCertStore::empty();
        roots.add(self.own.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![pair.der.clone()], key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        while client.is_handshaking() {
            client.complete_io(&mut socket)?;
        }
        Ok(BufReader::new(StreamOwned::new(client, socket)))
    }

    /// What a server presents to a new client.
    pub fn presented(&self, by: SocketAddr) -> CertificateDer<'static> {
        let connection = self.connect(by, None).unwrap();
        connection.get_ref().conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}
