//! Connections: names to addresses, addresses past the guard, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use portcullis_proxy::tls::{self, Alpn, ClientTls, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::guard::{Standing, permit};
use super::{Driver, Origin, Proxy};
use crate::fetch::error::{FetchError, FetchErrorKind};

const CONNECT: Duration = Duration::from_secs(5);

/// What a connection is made of.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<Stream>),
}

/// A connection to `origin`, whose certificate has to be signed by one of `ca` (PEM; `None`: the public authorities).
/// `proxy`: asked to connect us instead.
///
/// Cancel safe: dropped, it closes the connection.
pub(super) async fn dial(
    origin: &Origin,
    standing: Standing,
    ca: Option<&[u8]>,
    proxy: Option<&Proxy>,
) -> Result<Wire, FetchError> {
    let socket = match proxy {
        None => connect(origin, standing).await?,
        Some(proxy) => {
            if let Ok(address) = origin.host.parse() {
                permit(address, standing).map_err(|what| forbidden(origin, address, what))?;
            }
            connect(&proxy.origin, Standing::Named).await?
        }
    };
    if !origin.secure {
        return Ok(Wire::Plain(socket));
    }
    let failed = |problem: String| {
        let title = format!("no TLS with {}", origin.authority());
        FetchError::new(FetchErrorKind::Unreachable, title, problem)
    };
    let trusted = ClientTls::from_pem(&origin.host, ca, None)
        .map_err(|problem| failed(problem.to_string()).lasting())?;
    let socket = match proxy {
        Some(proxy) => tunnel(socket, origin, proxy).await.map_err(failed)?,
        None => socket,
    };
    let connected = tls::connect(&trusted, socket, Alpn::Http1, CONNECT)
        .await
        .map_err(|problem| failed(told(&problem)))?;
    Ok(Wire::Tls(Box::new(connected.stream)))
}

/// The library's words, and what they mean where people meet them most.
fn told(problem: &io::Error) -> String {
    match problem.to_string() {
        words if words.contains("InvalidContentType") => {
            format!(
                "it does not seem to speak TLS ({words}); plainHttp: true in registries, or \
                 --plain-http, is for such hosts"
            )
        }
        words if words.contains("UnknownIssuer") => format!(
            "nobody who is trusted here has signed its certificate ({words}); caFile in registries, \
             or --ca-file, names who has"
        ),
        words if words.contains("eof") => {
            format!("it hung up instead of answering ({words}); does it speak TLS?")
        }
        words => words,
    }
}

/// The first address of the name that may be dialled and answers.
async fn connect(origin: &Origin, standing: Standing) -> Result<TcpStream, FetchError> {
    let unreachable = |problem: String| {
        let title = format!("cannot reach {}", origin.authority());
        FetchError::new(FetchErrorKind::Unreachable, title, problem)
    };
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let found = timeout(CONNECT, lookup_host((origin.host.as_str(), origin.port))).await;
    let found = found.unwrap_or_else(|_| Err(late()));
    let found: Vec<SocketAddr> =
        found.map_err(|problem| unreachable(problem.to_string()))?.collect();
    let mut last = unreachable("the name has no address".to_owned());
    for address in found {
        if let Err(what) = permit(address.ip(), standing) {
            last = forbidden(origin, address.ip(), what);
            continue;
        }
        match timeout(CONNECT, TcpStream::connect(address)).await.unwrap_or_else(|_| Err(late())) {
            Ok(socket) => {
                // Only a delay, where it fails.
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Err(problem) => last = unreachable(format!("{address}: {problem}")),
        }
    }
    Err(last)
}

fn forbidden(origin: &Origin, address: IpAddr, what: &str) -> FetchError {
    let title = format!("{} is not dialled", origin.authority());
    FetchError::new(FetchErrorKind::Forbidden, title, format!("{address} is {what}"))
}

/// Asks the forward proxy at the other end of `socket` to connect it to `origin`.
async fn tunnel(socket: TcpStream, origin: &Origin, proxy: &Proxy) -> Result<TcpStream, String> {
    let to = |problem: hyper::Error| format!("the forward proxy: {problem}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(to)?;
    let _driver = Driver(tokio::spawn(async move {
        // What breaks the connection breaks the request as well.
        let _ = connection.with_upgrades().await;
    }));
    let target = match origin.host.contains(':') {
        true => format!("[{}]:{}", origin.host, origin.port),
        false => format!("{}:{}", origin.host, origin.port),
    };
    let mut request = Request::connect(&target)
        .header(http::header::HOST, &target)
        .body(Empty::<Bytes>::new())
        .map_err(|problem| problem.to_string())?;
    request.headers_mut().extend(proxy.pass.clone().map(|pass| (PROXY_AUTHORIZATION, pass)));
    let response = sender.send_request(request).await.map_err(to)?;
    if response.status() != StatusCode::OK {
        return Err(format!("the forward proxy answered {}", response.status()));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(to)?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>();
    let parts = parts.map_err(|_| "the forward proxy's connection is lost".to_owned())?;
    match parts.read_buf.is_empty() {
        true => Ok(parts.io.into_inner()),
        false => Err("the forward proxy spoke before it was asked".to_owned()),
    }
}

/// Both kinds of [`Wire`].
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Wire {
    pub(super) fn into_io(self) -> Box<dyn Io> {
        match self {
            Wire::Plain(socket) => Box::new(socket),
            Wire::Tls(stream) => stream,
        }
    }
}
