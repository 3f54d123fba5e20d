//! Connections of this program itself, for probes and for pages of admin servers: HTTP/1.1 and HTTP/2, with and without TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a server is spoken to.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// HTTP/2 from the first byte.
    pub http2: bool,
    /// With TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

/// HTTP/1.1 in the clear.
pub const PLAIN: Dialect = Dialect { http2: false, tls: None };

/// A response, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// All of its body.
    pub body: Bytes,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or the handshake fails.
    pub async fn open(address: SocketAddr, dialect: &Dialect) -> Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &dialect.tls else {
            return Connection::over(stream, dialect).await;
        };
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await?;
        Connection::over(stream, dialect).await
    }

    async fn over<S>(stream: S, dialect: &Dialect) -> Result<Connection>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(stream);
        let sender = if dialect.http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Ok(Connection { sender })
    }

    /// Sends a GET and reads the whole response.
    ///
    /// # Errors
    /// The connection breaks, or nothing comes in time.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let exchange = async {
            let mut request = Request::get(format!("http://localhost{path}"));
            if matches!(self.sender, Sender::Http1(_)) {
                request = Request::get(path).header("host", "localhost");
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Empty::new())?;
            let response = match &mut self.sender {
                Sender::Http1(sender) => sender.send_request(request).await?,
                Sender::Http2(sender) => sender.send_request(request).await?,
            };
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        timeout(PATIENCE, exchange).await.context("no answer in time")?
    }
}

/// A runtime for one thread.
///
/// # Errors
/// The system has no more descriptors.
pub fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// The page of an admin server. Blocks.
///
/// # Errors
/// It does not answer 200.
pub fn page(address: SocketAddr, path: &str) -> Result<String> {
    let answer = runtime()?.block_on(async {
        let mut connection = Connection::open(address, &PLAIN).await?;
        connection.get(path, &[("connection", "close")]).await
    })?;
    ensure!(answer.status == 200, "{path} answers {}", answer.status);
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// Who a client says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody.
    Anonymous,
    /// The client of this run's certificates.
    Client,
}

/// What a client needs to speak to servers with the certificates of this run.
///
/// # Errors
/// The folder does not hold them.
pub fn tls(certificates: &Path, identity: Identity) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.join("ca.pem"))?)?;
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match identity {
        Identity::Anonymous => config.with_no_client_auth(),
        Identity::Client => {
            let chain = vec![CertificateDer::from_pem_file(certificates.join("client.pem"))?];
            let key = PrivateKeyDer::from_pem_file(certificates.join("client.pem.key"))?;
            config.with_client_auth_cert(chain, key)?
        }
    };
    Ok(Arc::new(config))
}
