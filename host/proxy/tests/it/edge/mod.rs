//! The edges of the data plane: what happens when something is late, breaks off, changes or leaves while exchanges run.

mod attempts;
mod drain;
mod framing;
mod grpc;
mod grpc_calls;
mod hold;
mod publish;
mod redis;
mod routing;
mod secure;
mod tunnel;
mod vendor;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use portcullis_proxy::snapshot::*;
use portcullis_proxy::{Proxy, Snapshot};

use crate::harness::{PATIENCE, backend, eventually, listener, route, rule_to};

/// A server that leaves each connection to `serve`; `opened` counts them.
struct Scripted {
    address: SocketAddr,
    opened: Arc<AtomicUsize>,
}

impl Scripted {
    fn new(serve: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (opened.clone(), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, serve) = (stream.unwrap(), serve.clone());
                count.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || serve(&mut stream));
            }
        });
        Scripted { address, opened }
    }

    /// Answers every request head with these bytes.
    fn canned(answer: &'static str) -> Scripted {
        Scripted::new(move |stream| {
            while !read_head(stream).is_empty() {
                stream.write_all(answer.as_bytes()).unwrap();
            }
        })
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

/// A head up to its empty line; empty when the other side has closed.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Exactly so many bytes.
fn read_exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// All bytes until the other side closes.
fn read_rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One listener and one rule, which `edit` may change, to this address.
fn snapshot(
    protocol: BackendProtocol,
    address: SocketAddr,
    edit: impl FnOnce(&mut Rule),
) -> Snapshot {
    let mut rule = rule_to(0);
    edit(&mut rule);
    Snapshot {
        generation: 1,
        listeners: vec![Arc::new(listener("web"))],
        routes: vec![route(RouteKind::Http, vec![rule])],
        backends: vec![backend("default/app", protocol, address)],
        ..Snapshot::default()
    }
}

/// The same with filters on the listener, in this order.
fn filtered(mut snapshot: Snapshot, filters: Vec<Filter>) -> Snapshot {
    let mut web = (*snapshot.listeners[0]).clone();
    web.filters = (0..filters.len()).collect();
    snapshot.listeners[0] = Arc::new(web);
    snapshot.filters = filters.into_iter().map(Arc::new).collect();
    snapshot
}

fn status(proxy: &Proxy) -> serde_json::Value {
    serde_json::to_value(proxy.status()).unwrap()
}

/// The generations that still live.
fn generations(proxy: &Proxy) -> Vec<u64> {
    let status = status(proxy);
    let all = status["generations"].as_array().unwrap();
    all.iter().map(|each| each["generation"].as_u64().unwrap()).collect()
}

fn until_nothing_is_in_flight(proxy: &Proxy) {
    eventually("every exchange ends", || status(proxy)["exchanges"] == 0);
}
