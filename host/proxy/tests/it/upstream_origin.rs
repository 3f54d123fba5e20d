//! Upstreams for tests: servers on loopback, and clusters that point at them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portcullis_proxy::Body;
use portcullis_proxy::snapshot::{Backend, BackendProtocol, Endpoint, EndpointAddress};
use portcullis_proxy::tls::{ClientTls, ServerTls, accept};
use portcullis_proxy::upstream::{Cluster, SendError, SendOptions, Upstreamed};
use portcullis_vm::{Fields, RequestHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

pub type Reply = Response<BoxBody<Bytes, Infallible>>;

const LONG: Duration = Duration::from_secs(30);

/// Runs a test on one thread, as a worker does.
pub fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Reads one head, up to the empty line; empty if the peer has closed.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A server that gives each connection to `serve`, one after the other.
pub async fn raw<F: Future<Output = ()> + 'static>(
    mut serve: impl FnMut(TcpStream) -> F + 'static,
) -> SocketAddr {
    let (listener, address) = listen().await;
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn_local(serve(stream));
        }
    });
    address
}

/// An HTTP/1 server that gives every request the same bytes, and keeps the connection.
pub async fn canned(answer: &'static str) -> SocketAddr {
    raw(move |mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

/// An HTTP/2 server, with TLS or prior knowledge.
pub async fn http2<F>(
    tls: Option<ServerTls>,
    streams: u32,
    answer: impl Fn(Request<Incoming>) -> F + Clone + 'static,
) -> SocketAddr
where
    F: Future<Output = Reply> + 'static,
{
    raw(move |stream| {
        let (tls, answer) = (tls.clone(), answer.clone());
        async move {
            let service = service_fn(move |request| {
                let reply = answer(request);
                async move { Ok::<_, Infallible>(reply.await) }
            });
            let mut http = hyper::server::conn::http2::Builder::new(Local);
            http.max_concurrent_streams(streams);
            match tls {
                None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    let accepted = accept(&tls, stream, LONG).await.unwrap();
                    assert!(accepted.http2);
                    drop(http.serve_connection(TokioIo::new(accepted.stream), service).await);
                }
            }
        }
    })
    .await
}

#[derive(Clone, Copy)]
pub struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(async move { drop(task.await) });
    }
}

pub fn full(text: &'static str) -> Reply {
    Response::new(http_body_util::Full::from(text).boxed())
}

/// A reply whose body never comes to its end.
pub fn unending() -> Reply {
    Response::new(Unending.boxed())
}

struct Unending;

impl hyper::body::Body for Unending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

pub fn backend(protocol: BackendProtocol, addresses: &[SocketAddr]) -> Backend {
    let endpoint =
        |address: &SocketAddr| Endpoint { address: EndpointAddress::Ip(*address), weight: 1 };
    Backend {
        name: "default/test".into(),
        protocol,
        endpoints: addresses.iter().map(endpoint).collect(),
        tls: None,
        connect_timeout: LONG,
        idle_timeout: LONG,
    }
}

pub fn cluster(protocol: BackendProtocol, address: SocketAddr) -> Rc<Cluster> {
    Cluster::new(Arc::new(backend(protocol, &[address])))
}

pub fn secure(protocol: BackendProtocol, address: SocketAddr, tls: ClientTls) -> Rc<Cluster> {
    let tls = Some(Arc::new(tls));
    Cluster::new(Arc::new(Backend { tls, ..backend(protocol, &[address]) }))
}

pub fn get(path: &str) -> RequestHead {
    RequestHead {
        method: Method::GET,
        scheme: Bytes::from_static(b"http"),
        authority: Bytes::from_static(b"app.test"),
        path: Bytes::copy_from_slice(path.as_bytes()),
        headers: Fields::default(),
    }
}

pub async fn send(cluster: &Rc<Cluster>, path: &str) -> Result<Box<Upstreamed>, Box<SendError>> {
    cluster.send(&get(path), Body::Empty, &SendOptions::default()).await
}

/// Sends and reads the whole body.
pub async fn fetch(cluster: &Rc<Cluster>, path: &str) -> String {
    text(send(cluster, path).await.unwrap()).await
}

pub async fn text(answer: Box<Upstreamed>) -> String {
    let bytes = answer.response.body.collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Lets everything else run until `done`.
pub async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}
