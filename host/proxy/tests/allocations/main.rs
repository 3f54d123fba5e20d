//! What a request that is forwarded takes from the heap: the whole data plane, one connection on each side that is kept
//! alive. Client and upstream are written so that they allocate nothing.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

#[path = "../../../allocations.rs"]
mod allocations;
#[allow(dead_code, reason = "made for the other tests, which need more of it")]
#[path = "../it/guests.rs"]
mod guests;
#[allow(dead_code, reason = "made for the other tests, which need more of it")]
#[path = "../it/harness.rs"]
mod harness;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use portcullis_proxy::Snapshot;
use portcullis_proxy::snapshot::{BackendProtocol, Filter, RouteKind};

use allocations::{Alone, Taken};
use harness::{PATIENCE, address, backend, listener, route, rule_to, start};

/// Ceilings for one request and its response. Lower them when it takes less. Most of the bytes are the state of the exchange
/// (unoptimised) and its two heads, which no connection keeps while it waits for the next request.
const WITHOUT_FILTERS: Taken = Taken { blocks: 14, bytes: 4_100 };
const WITH_FIVE_FILTERS: Taken = Taken { blocks: 15, bytes: 4_200 };

const REQUEST: &[u8] = b"GET /some/path HTTP/1.1\r\nhost: app.test\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nserver: upstream\r\ncontent-type: text/plain\r\n\
    connection: keep-alive\r\ncontent-length: 38\r\n\r\nThirty-eight bytes: the whole answer.\n";
const ANSWER_ENDS: &[u8] = b"answer.\n";

/// Reads until what was read ends so; false if the other side has closed.
fn read_to(stream: &mut TcpStream, end: &[u8]) -> bool {
    let (mut buffer, mut filled) = ([0; 4096], 0);
    while !buffer[..filled].ends_with(end) {
        match stream.read(&mut buffer[filled..]) {
            Ok(count) if count > 0 => filled += count,
            _ => return false,
        }
    }
    true
}

/// Answers one connection.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while read_to(&mut stream, b"\r\n\r\n") {
            stream.write_all(RESPONSE).unwrap();
        }
    });
    address
}

/// Sets a header of the request and one of the response, and has every callback that SDKs export.
fn small(number: usize) -> Arc<Filter> {
    let body = r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $replace (i32.const 0) $name$ $value$)) (i32.const 0))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (drop (call $replace (i32.const 2) $name$ $value$)) (i32.const 0))
        (func (export "proxy_on_log") (param i32))
        (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
        (func (export "proxy_on_delete") (param i32))"#;
    let strings = [("name", "x-filter"), ("value", "seen")];
    Arc::new(guests::filter(&format!("small-{number}"), &strings, body))
}

/// Sends requests, one after the other, through so many filters.
fn forward(filters: usize, ceiling: Taken) {
    let alone = Alone::new();
    let mut web = listener("web");
    web.filters = (0..filters).collect();
    let proxy = start(Snapshot {
        generation: 1,
        listeners: vec![Arc::new(web)],
        routes: vec![route(RouteKind::Http, vec![rule_to(0)])],
        backends: vec![backend("default/app", BackendProtocol::Http, upstream())],
        filters: (0..filters).map(small).collect(),
        ..Snapshot::default()
    });
    let mut client = TcpStream::connect(address(&proxy)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let what = format!("a request through {filters} filters");
    let send = |()| {
        client.write_all(REQUEST).unwrap();
        assert!(read_to(&mut client, ANSWER_ENDS));
    };
    alone.check(&what, ceiling, || (), send);
}

#[test]
fn a_request_without_filters_allocates_no_more_than_it_may() {
    forward(0, WITHOUT_FILTERS);
}

#[test]
fn a_request_through_five_filters_allocates_no_more_than_it_may() {
    forward(5, WITH_FIVE_FILTERS);
}
