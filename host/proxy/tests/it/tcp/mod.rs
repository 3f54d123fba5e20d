//! Connections without HTTP: whole proxies between plain sockets.

mod filters;
mod lifecycle;
mod relay;
mod sni;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portcullis_proxy::snapshot::*;
use portcullis_proxy::{Proxy, Snapshot};
use serde_json::Value;

use crate::harness::{PATIENCE, address, backend, eventually, listener};

/// A server that leaves each connection to `serve`.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

/// Sends back what it gets, and ends when the client has.
pub fn echo() -> SocketAddr {
    server(|mut stream| {
        let mut back = stream.try_clone().unwrap();
        drop(std::io::copy(&mut stream, &mut back));
        drop(back.shutdown(std::net::Shutdown::Write));
    })
}

/// Says its name, and what it gets.
fn named(name: &'static str) -> SocketAddr {
    server(move |mut stream| {
        stream.write_all(name.as_bytes()).unwrap();
        let mut back = stream.try_clone().unwrap();
        drop(std::io::copy(&mut stream, &mut back));
    })
}

fn share(backend: BackendIndex) -> WeightedBackend {
    let reference = "default/app".to_owned();
    WeightedBackend { backend: Some(backend), reference, weight: 1, filters: Vec::new() }
}

fn route(name: &str, hostnames: &[&str], backend: BackendIndex) -> Arc<TcpRoute> {
    Arc::new(TcpRoute {
        name: name.into(),
        listeners: vec![0],
        hostnames: hostnames.iter().map(|name| (*name).to_owned()).collect(),
        backends: vec![share(backend)],
    })
}

/// A plain listener with these filters in this order, and a route to one backend.
pub fn snapshot(upstream: SocketAddr, filters: Vec<Filter>) -> Snapshot {
    let mut tcp = listener("tcp");
    tcp.protocol = ListenerProtocol::Tcp;
    tcp.filters = (0..filters.len()).collect();
    Snapshot {
        generation: 1,
        listeners: vec![Arc::new(tcp)],
        tcp_routes: vec![route("default/tcp", &[], 0)],
        backends: vec![backend("default/app", BackendProtocol::Tcp, upstream)],
        filters: filters.into_iter().map(Arc::new).collect(),
        ..Snapshot::default()
    }
}

pub fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(address(proxy)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Exactly so many bytes.
pub fn take(stream: &mut impl Read, count: usize) -> String {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// All bytes until the other side ends.
pub fn rest(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends, ends, and reads the answer.
fn ask(proxy: &Proxy, text: &str) -> String {
    let mut client = connect(proxy);
    client.write_all(text.as_bytes()).unwrap();
    // A filter may have closed the connection already.
    let _ = client.shutdown(std::net::Shutdown::Write);
    rest(&mut client)
}

fn status(proxy: &Proxy) -> Value {
    serde_json::to_value(proxy.status()).unwrap()
}

/// The generations that still live.
fn generations(proxy: &Proxy) -> Vec<u64> {
    let status = status(proxy);
    let all = status["generations"].as_array().unwrap();
    all.iter().map(|each| each["generation"].as_u64().unwrap()).collect()
}

pub fn until_metric(proxy: &Proxy, line: &str) {
    eventually(&format!("{line} is counted"), || {
        proxy.metrics().lines().any(|counted| counted == line)
    });
}

/// A log in a folder of its own.
struct Log(tempfile::TempDir);

impl Log {
    fn new(snapshot: &mut Snapshot) -> Log {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log").to_str().unwrap().to_owned();
        snapshot.access_log = Some(AccessLog {
            format: AccessLogFormat::Json,
            path,
            filter: None,
            fields: std::collections::BTreeMap::new(),
        });
        Log(folder)
    }

    /// Everything that was logged until the proxy had drained.
    fn lines(&self, proxy: &Proxy) -> Vec<Value> {
        assert!(proxy.drain(Duration::ZERO, PATIENCE));
        let text = std::fs::read_to_string(self.0.path().join("log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
