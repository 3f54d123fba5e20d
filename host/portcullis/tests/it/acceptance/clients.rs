//! An HTTP client on one connection, without retries.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What clients send.
pub type Sent = BoxBody<Bytes, Infallible>;
/// What can go wrong on the way.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// One connection.
pub enum Client {
    Http1(http1::SendRequest<Sent>),
    Http2(http2::SendRequest<Sent>),
}

/// A response read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// A header's value, empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    /// Without TLS; HTTP/2 by prior knowledge.
    pub async fn connect(address: SocketAddr, protocol: Protocol) -> Result<Client, Error> {
        Client::on(TcpStream::connect(address).await?, protocol).await
    }

    /// By TLS, with the protocol from ALPN; also the certificate that the server showed.
    pub async fn secure(
        address: SocketAddr,
        protocol: Protocol,
        trusted: &[CertificateDer<'static>],
    ) -> Result<(Client, CertificateDer<'static>), Error> {
        let mut roots = RootCertStore::empty();
        for certificate in trusted {
            roots.add(certificate.clone())?;
        }
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let offered: &[u8] = if protocol == Protocol::Http1 { b"http/1.1" } else { b"h2" };
        config.alpn_protocols = vec![offered.to_owned()];
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let session = stream.get_ref().1;
        if session.alpn_protocol() != Some(offered) {
            return Err("another protocol was negotiated".into());
        }
        let shown = session.peer_certificates().and_then(<[_]>::first).ok_or("no certificate")?;
        let shown = shown.clone().into_owned();
        Ok((Client::on(stream, protocol).await?, shown))
    }

    async fn on(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        protocol: Protocol,
    ) -> Result<Client, Error> {
        let stream = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Ok(Client::Http1(sender))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(connection);
                Ok(Client::Http2(sender))
            }
        }
    }

    /// Whether the server has said that this connection ends.
    pub fn is_closed(&self) -> bool {
        match self {
            Client::Http1(sender) => sender.is_closed(),
            Client::Http2(sender) => sender.is_closed(),
        }
    }

    /// The response, its body still to be read.
    pub async fn open(&mut self, mut request: Request<Sent>) -> Result<Response<Incoming>, Error> {
        match self {
            Client::Http1(sender) => {
                sender.ready().await?;
                request.headers_mut().insert("host", "app.test".parse()?);
                Ok(sender.send_request(request).await?)
            }
            Client::Http2(sender) => {
                sender.ready().await?;
                let path = request.uri().to_string();
                *request.uri_mut() = format!("http://app.test{path}").parse::<Uri>()?;
                Ok(sender.send_request(request).await?)
            }
        }
    }

    /// The response with its whole body.
    pub async fn send(&mut self, request: Request<Sent>) -> Result<Answer, Error> {
        let (head, body) = self.open(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

/// A GET; `path` without an authority.
pub fn get(path: &str) -> Request<Sent> {
    Request::get(path).body(Empty::new().boxed()).unwrap()
}

/// A POST of these bytes.
pub fn post(path: &str, body: impl Into<Bytes>) -> Request<Sent> {
    Request::post(path).body(Full::new(body.into()).boxed()).unwrap()
}

/// Runs a client's story on a runtime of its own.
pub fn block_on<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story)
}
