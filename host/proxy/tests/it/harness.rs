//! A whole proxy in process, with real sockets: upstreams, a snapshot around them, and clients.

use std::convert::Infallible;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_proxy::snapshot::*;
use portcullis_proxy::{Options, Proxy, Snapshot};
use portcullis_vm::Engine;
use tokio::net::{TcpListener, TcpStream};

/// No exchange on loopback takes so long; a test that waits for longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One engine for all tests: modules and proxies have to share it.
pub fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new().unwrap()).clone()
}

/// A request as an upstream saw it.
#[derive(Debug)]
pub struct Seen {
    pub head: http::request::Parts,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

/// A server on a port of its own that answers everything with a handler, by HTTP/1.1 or HTTP/2 as the client begins.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Receiver<Seen>,
}

impl Upstream {
    /// Answers with the request's path and body.
    pub fn echo() -> Upstream {
        Upstream::answering(|seen| {
            let text = format!("{} {}", seen.head.method, seen.head.uri.path_and_query().unwrap());
            let body = if seen.body.is_empty() { Bytes::from(text) } else { seen.body.clone() };
            Response::new(body)
        })
    }

    /// Answers each request with what `answer` makes of it.
    pub fn answering(
        answer: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Upstream {
        let answer = Arc::new(answer);
        Upstream::serving(move |request, sender| {
            let answer = answer.clone();
            async move {
                let (head, body) = request.into_parts();
                let collected = body.collect().await.unwrap_or_default();
                let trailers = collected.trailers().cloned();
                let seen = Seen { head, body: collected.to_bytes(), trailers };
                let response = answer(&seen).map(|body| Full::new(body).boxed());
                drop(sender.send(seen));
                response
            }
        })
    }

    /// Answers with a future of its own, body as it likes.
    pub fn serving<F, R>(serve: F) -> Upstream
    where
        F: Fn(Request<Incoming>, Sender<Seen>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>>
            + Send
            + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, seen) = channel();
        let serve = Arc::new(serve);
        thread::spawn(move || {
            runtime().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (serve, sender) = (serve.clone(), sender.clone());
                    let service = service_fn(move |request| {
                        let answered = serve(request, sender.clone());
                        async move { Ok::<_, Infallible>(answered.await) }
                    });
                    tokio::spawn(async move {
                        let mut first = [0; 3];
                        while stream
                            .peek(&mut first)
                            .await
                            .is_ok_and(|count| (1..3).contains(&count))
                        {}
                        let io = TokioIo::new(stream);
                        if &first == b"PRI" {
                            let builder =
                                hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                            drop(builder.serve_connection(io, service).await);
                        } else {
                            let builder = hyper::server::conn::http1::Builder::new();
                            drop(builder.serve_connection(io, service).with_upgrades().await);
                        }
                    });
                }
            });
        });
        Upstream { address, seen }
    }

    /// The next request that arrived.
    pub fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("a request")
    }

    /// Requests that have arrived and were not taken.
    pub fn pending(&self) -> usize {
        self.seen.try_iter().count()
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A backend with one endpoint.
pub fn backend(name: &str, protocol: BackendProtocol, address: SocketAddr) -> Arc<Backend> {
    Arc::new(Backend {
        name: name.into(),
        protocol,
        endpoints: vec![Endpoint { address: EndpointAddress::Ip(address), weight: 1 }],
        tls: None,
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
    })
}

/// A rule that sends everything to the backend with this index.
pub fn rule_to(backend: BackendIndex) -> Rule {
    Rule {
        name: "default/route/0".into(),
        backends: vec![WeightedBackend {
            backend: Some(backend),
            reference: "backend".to_owned(),
            weight: 1,
            filters: Vec::new(),
        }],
        ..Rule::default()
    }
}

pub fn route(kind: RouteKind, rules: Vec<Rule>) -> Arc<Route> {
    Arc::new(Route {
        name: "default/route".into(),
        kind,
        listeners: vec![0],
        hostnames: Vec::new(),
        created: None,
        rules: rules.into_iter().map(Arc::new).collect(),
    })
}

pub fn listener(name: &str) -> Listener {
    Listener {
        name: name.to_owned(),
        address: "127.0.0.1:0".parse().unwrap(),
        direction: ListenerDirection::Gateway,
        protocol: ListenerProtocol::Http,
        tls: None,
        trusted_hops: 0,
        filters: Vec::new(),
    }
}

/// One listener, one backend, one rule that joins them.
pub fn simple(protocol: BackendProtocol, upstream: &Upstream) -> Snapshot {
    Snapshot {
        generation: 1,
        listeners: vec![Arc::new(listener("web"))],
        routes: vec![route(RouteKind::Http, vec![rule_to(0)])],
        backends: vec![backend("default/app", protocol, upstream.address)],
        ..Snapshot::default()
    }
}

/// A proxy with one worker.
pub fn start(snapshot: Snapshot) -> Proxy {
    Proxy::start(Options::new(1, engine()), snapshot).unwrap()
}

pub fn address(proxy: &Proxy) -> SocketAddr {
    proxy.addresses()[0].1
}

/// Sends bytes, closes nothing, and reads until the proxy closes or `until` has been read.
pub fn raw(address: SocketAddr, bytes: &[u8], until: &str) -> String {
    let mut stream = StdStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if !until.is_empty() && so_far.contains(until) {
            return so_far;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&text).into_owned(),
            Ok(count) => text.extend_from_slice(&buffer[..count]),
        }
    }
}

/// An HTTP client on one connection.
pub enum Client {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

/// A response read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Client {
    pub async fn http1(address: SocketAddr) -> Client {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Client::Http1(sender)
    }

    pub async fn http2(address: SocketAddr) -> Client {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let executor = TokioExecutor::new();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        Client::Http2(sender)
    }

    pub async fn open(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Client::Http1(sender) => {
                sender.ready().await?;
                let (mut parts, body) = request.into_parts();
                let authority = parts.uri.authority().map(|authority| authority.to_string());
                if let Some(authority) = authority {
                    parts.headers.entry("host").or_insert(authority.parse().unwrap());
                }
                parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
                sender.send_request(Request::from_parts(parts, body)).await
            }
            Client::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        let response = self.open(request).await.unwrap();
        let (head, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned();
        Answer { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(request("GET", path).body(Full::default()).unwrap()).await
    }
}

pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://app.test{path}"))
}

/// Asks again until it is so.
/// An address of this test's own at which nobody listens, as long as this lives.
pub struct Unserved {
    socket: tokio::net::TcpSocket,
}

impl Unserved {
    pub fn new() -> Unserved {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // A server that asks for the same may begin to listen there.
        socket.set_reuseaddr(true).unwrap();
        socket.bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Unserved { socket }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }
}

pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}
