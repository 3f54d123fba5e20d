//! The server behind the proxy, HTTP/1.1 or HTTP/2 as its client begins. The path, without what begins with `by-`, says
//! what it does:
//!
//! - `/stream/…` answers in small parts until [`Origin::finish`];
//! - `/bytes/N` answers with N bytes, `/sink/…` counts what it is sent, slowly;
//! - `/echo/…` answers with the request's body, and everything else with the marks that the request carries.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Interval, interval, sleep};

/// What long bodies are made of.
pub const FILLING: [u8; 16 << 10] = [b'z'; 16 << 10];
/// One part of a stream.
pub const PART: &[u8] = b"part\n";
/// Between two parts of a stream.
const BEAT: Duration = Duration::from_millis(50);
/// A slow party rests so often and so long.
pub const SIP: u64 = 1 << 20;
pub const REST: Duration = Duration::from_millis(5);

/// A server that runs as long as the test process.
pub struct Origin {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    finished: AtomicBool,
    moved: AtomicU64,
}

impl Origin {
    /// `name`: what it calls itself among the marks.
    pub fn start(name: &'static str) -> Origin {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { name, finished: false.into(), moved: 0.into() });
        let ours = shared.clone();
        thread::spawn(move || {
            super::clients::block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, ours.clone()));
                }
            });
        });
        Origin { address, shared }
    }

    /// Ends all streams.
    pub fn finish(&self) {
        self.shared.finished.store(true, Ordering::Relaxed);
    }

    /// Bytes of long bodies that were sent and taken so far.
    pub fn moved(&self) -> u64 {
        self.shared.moved.load(Ordering::Relaxed)
    }
}

/// What an exchange without any other purpose is answered with.
pub fn marks(name: &str, headers: &HeaderMap) -> String {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("none");
    format!("{name} guest={} route={}\n", header("x-guest"), header("x-route"))
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut first = [0; 3];
    while stream.peek(&mut first).await.is_ok_and(|count| (1..3).contains(&count)) {}
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(Response::new(answer(request, shared).await)) }
    });
    let io = TokioIo::new(stream);
    // What breaks a connection shows at the client.
    let _ = if &first == b"PRI" {
        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        http1::Builder::new().serve_connection(io, service).await
    };
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> BoxBody<Bytes, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut path = head.uri.path().split('/');
    let first = Bytes::from(marks(shared.name, &head.headers));
    match path.find(|part| !part.is_empty() && !part.starts_with("by-")) {
        Some("stream") => Parts { first: Some(first), beat: interval(BEAT), shared }.boxed(),
        Some("bytes") => {
            let left = path.next().and_then(|count| count.parse().ok()).unwrap();
            Filling { left, shared: Some(shared) }.boxed()
        }
        Some("sink") => {
            let taken = drink(&mut body, |count| {
                shared.moved.fetch_add(count, Ordering::Relaxed);
            });
            Full::from(taken.await.map_or("broken".to_owned(), |taken| taken.to_string())).boxed()
        }
        Some("echo") => Full::new(body.collect().await.unwrap_or_default().to_bytes()).boxed(),
        _ => Full::new(first).boxed(),
    }
}

/// Reads a body of filling, resting often; its length.
///
/// # Errors
/// It breaks off or holds something else.
pub async fn drink(body: &mut Incoming, mut seen: impl FnMut(u64)) -> Result<u64, &'static str> {
    let (mut total, mut sip) = (0, 0);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| "broken off")?.into_data() else { continue };
        let filling = data.chunks(FILLING.len()).all(|chunk| *chunk == FILLING[..chunk.len()]);
        if !filling {
            return Err("not what was sent");
        }
        let count = data.len() as u64;
        (total, sip) = (total + count, sip + count);
        seen(count);
        if sip >= SIP {
            sip = 0;
            sleep(REST).await;
        }
    }
    Ok(total)
}

/// A body of the marks and then parts until the origin finishes.
struct Parts {
    first: Option<Bytes>,
    beat: Interval,
    shared: Arc<Shared>,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.beat.poll_tick(context).is_pending() {
            return Poll::Pending;
        }
        let finished = self.shared.finished.load(Ordering::Relaxed);
        Poll::Ready((!finished).then(|| Ok(Frame::data(Bytes::from_static(PART)))))
    }
}

/// A body of a given length, made as it is read.
pub struct Filling {
    left: u64,
    shared: Option<Arc<Shared>>,
}

impl Filling {
    /// For a client.
    pub fn new(length: u64) -> Filling {
        Filling { left: length, shared: None }
    }
}

impl Body for Filling {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let count = self.left.min(FILLING.len() as u64);
        if count == 0 {
            return Poll::Ready(None);
        }
        self.left -= count;
        if let Some(shared) = &self.shared {
            shared.moved.fetch_add(count, Ordering::Relaxed);
        }
        static LONG: [u8; 16 << 10] = FILLING;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&LONG[..count as usize])))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
