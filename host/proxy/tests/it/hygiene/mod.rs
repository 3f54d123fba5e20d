//! Raw bytes at the door: what of HTTP/1.1 and HTTP/2 is refused, what is normalised, and that nothing is smuggled.
//!
//! The upstream answers each complete request with the bytes it has received, so a test sees both sides.

mod connections;
mod http1;
mod http2;
mod upstream2;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use portcullis_proxy::snapshot::{BackendProtocol, Limits, RouteKind, Rule};
use portcullis_proxy::{Proxy, Snapshot};

use crate::harness::{self, PATIENCE};

struct World {
    proxy: Proxy,
    address: SocketAddr,
    /// Requests that reached the upstream whole.
    served: Arc<AtomicUsize>,
}

fn start(limits: Limits) -> World {
    start_with(limits, harness::rule_to(0))
}

fn start_with(limits: Limits, rule: Rule) -> World {
    let served = Arc::new(AtomicUsize::new(0));
    let echo = echo(Arc::clone(&served));
    let proxy = harness::start(Snapshot {
        generation: 1,
        listeners: vec![Arc::new(harness::listener("web"))],
        routes: vec![harness::route(RouteKind::Http, vec![rule])],
        backends: vec![harness::backend("default/echo", BackendProtocol::Http, echo)],
        limits,
        ..Snapshot::default()
    });
    let address = harness::address(&proxy);
    World { proxy, address, served }
}

/// An upstream that takes strict HTTP/1.1 and answers with what it has read.
fn echo(served: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, served) = (stream.unwrap(), Arc::clone(&served));
            thread::spawn(move || {
                let mut bytes = Vec::new();
                while let Some(length) = next_message(&mut stream, &mut bytes) {
                    let request: Vec<u8> = bytes.drain(..length).collect();
                    served.fetch_add(1, Ordering::SeqCst);
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                    if stream.write_all(&[head.as_bytes(), &request].concat()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Reads until `bytes` begins with a whole message; its length. `None` when the other side is done.
fn next_message(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(length) = message_length(bytes) {
            return Some(length);
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

fn message_length(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = if text.contains("transfer-encoding: chunked\r\n") {
        let end = match bytes[head..].starts_with(b"0\r\n\r\n") {
            true => 0,
            false => find(&bytes[head..], b"\r\n0\r\n\r\n")? + 2,
        };
        head + end + 5
    } else {
        let line = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        head + line.map_or(0, |length| length.parse().unwrap())
    };
    (bytes.len() >= length).then_some(length)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

impl World {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes and reads until the proxy closes.
    fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // The proxy may have answered and closed before it has read everything.
        let _ = stream.write_all(request);
        until_closed(&mut stream)
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// The request is answered with this status, the connection is closed, and the upstream saw nothing whole.
    fn refuses(&self, name: &str, request: impl AsRef<[u8]>, status: u16) {
        let before = self.served();
        let answer = self.exchange(request.as_ref());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer:?}");
        assert_eq!(self.served(), before, "{name}");
    }

    /// The request reaches the upstream once; what it has read there, in lower case.
    fn forwards(&self, name: &str, request: impl AsRef<[u8]>) -> String {
        let before = self.served();
        let answer = self.exchange(request.as_ref());
        let status = answer.split(' ').nth(1);
        assert_eq!(status, Some("200"), "{name}: {answer:?}");
        assert_eq!(self.served(), before + 1, "{name}: {answer:?}");
        let (_, seen) = answer.split_once("\r\n\r\n").unwrap();
        seen.to_ascii_lowercase()
    }
}

fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}; so far {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
