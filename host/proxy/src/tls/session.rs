//! Handshakes within a time-out, and what is known of a session afterwards.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use portcullis_vm::TlsAttributes;
use rustls::{CommonState, ProtocolVersion};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificate::Leaf;
use super::{Alpn, ClientTls, H2, ServerTls, protocols};

/// A connection after the handshake, on either side.
pub type Stream = tokio_rustls::TlsStream<TcpStream>;

/// A client that has been let in.
#[derive(Debug)]
pub struct Accepted {
    /// To be read and written.
    pub stream: Stream,
    /// For guests and the access log.
    pub attributes: TlsAttributes,
    /// Whether HTTP/2 was agreed upon; otherwise it is HTTP/1.1.
    pub http2: bool,
}

/// A backend that has proved its name.
#[derive(Debug)]
pub struct Connected {
    /// To be read and written.
    pub stream: Stream,
    /// For guests and the access log.
    pub attributes: TlsAttributes,
    /// Whether HTTP/2 was agreed upon; otherwise it is HTTP/1.1.
    pub http2: bool,
}

/// The handshake as server.
///
/// Cancel safe: dropped, it closes the connection.
///
/// # Errors
/// The client was refused, does not speak TLS, went away, or took longer than `limit` ([`io::ErrorKind::TimedOut`]).
pub async fn accept(tls: &ServerTls, stream: TcpStream, limit: Duration) -> io::Result<Accepted> {
    let acceptor = TlsAcceptor::from(tls.config.clone());
    let stream = within(limit, acceptor.accept(stream)).await?;
    let session = stream.get_ref().1;
    let peer = peer(session);
    let mut attributes = attributes(session, peer, Some(&tls.own));
    attributes.server_name = session.server_name().map(str::to_owned);
    let http2 = session.alpn_protocol() == Some(H2);
    Ok(Accepted { attributes, http2, stream: stream.into() })
}

/// The handshake as client. Under [`Alpn::H2`] a server that agrees on nothing is taken to speak HTTP/2 all the same.
///
/// Cancel safe: dropped, it closes the connection.
///
/// # Errors
/// The server could not prove its name, does not speak TLS, went away, or took longer than `limit`
/// ([`io::ErrorKind::TimedOut`]).
pub async fn connect(
    tls: &ClientTls,
    stream: TcpStream,
    alpn: Alpn,
    limit: Duration,
) -> io::Result<Connected> {
    let connector = TlsConnector::from(tls.config.clone());
    let handshake = connector.with_alpn(protocols(alpn)).connect(tls.name.clone(), stream);
    let stream = within(limit, handshake).await?;
    let session = stream.get_ref().1;
    let mut attributes = attributes(session, peer(session), tls.own.as_deref());
    attributes.server_name = Some(tls.hostname.clone());
    let http2 = match session.alpn_protocol() {
        Some(agreed) => agreed == H2,
        None => alpn == Alpn::H2,
    };
    Ok(Connected { attributes, http2, stream: stream.into() })
}

async fn within<T>(
    limit: Duration,
    handshake: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match timeout(limit, handshake).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time")),
    }
}

fn peer(session: &CommonState) -> Option<Leaf> {
    // Verified already, so a certificate that cannot be read here is one without names for us.
    Leaf::read(session.peer_certificates()?.first()?).ok()
}

fn attributes(session: &CommonState, peer: Option<Leaf>, own: Option<&Leaf>) -> TlsAttributes {
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let mut attributes = TlsAttributes { version: version.to_owned(), ..TlsAttributes::default() };
    attributes.mutual = peer.is_some() && own.is_some();
    if let Some(peer) = peer {
        attributes.peer_subject = Some(peer.subject);
        attributes.peer_dns_names = peer.dns_names;
        attributes.peer_uris = peer.uris;
        attributes.peer_digest = Some(peer.digest);
    }
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    attributes.peer_certificate = leaf.map(|leaf| Bytes::copy_from_slice(leaf));
    if let Some(own) = own {
        attributes.local_subject = Some(own.subject.clone());
        attributes.local_dns_names = own.dns_names.clone();
        attributes.local_uris = own.uris.clone();
    }
    attributes
}
