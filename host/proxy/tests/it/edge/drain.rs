//! Leaving without a failed request: drains, listeners that come and go, and clients that do nothing.

use std::io::Write;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use portcullis_proxy::snapshot::*;
use portcullis_proxy::{Proxy, Refusal, Snapshot};

use super::{Scripted, connect, filtered, read_exactly, read_head, read_rest, snapshot, status};
use crate::guests::{calling_from, filter};
use crate::harness::{
    Client, PATIENCE, Upstream, address, backend, eventually, listener, raw, request, runtime,
    start,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n";

/// Answers each request, in the middle of its body, when told to.
fn gated() -> (Scripted, Sender<()>) {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let upstream = Scripted::new(move |stream| {
        while !read_head(stream).is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").unwrap();
            if wait.lock().unwrap().recv().is_err() {
                return;
            }
            stream.write_all(b" more").unwrap();
        }
    });
    (upstream, go)
}

/// Keeps its worker busy for a while, on `x-spin`.
fn spinning() -> Filter {
    let mut spinning = filter(
        "spinning",
        &[("s", "x-spin")],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (local $left i32)
             (if (call $has $s$) (then
               (local.set $left (i32.const 400000000))
               (loop $more (br_if $more
                 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
             (i32.const 0))"#,
    );
    let mut plugin = (*spinning.plugin).clone();
    plugin.limits.callback = Duration::from_secs(20);
    spinning.plugin = Arc::new(plugin);
    spinning
}

/// Has connections wait in the listener's queue while `close` is called, and asserts that each is answered.
fn everybody_in_the_queue_is_served(close: impl FnOnce(&Proxy) + Send) {
    let upstream = Upstream::echo();
    let plain = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(filtered(plain, vec![spinning()]));
    let mut busy = connect(address(&proxy));
    busy.write_all(b"GET /busy HTTP/1.1\r\nhost: app.test\r\nx-spin: 1\r\n\r\n").unwrap();
    eventually("the worker is busy", || status(&proxy)["exchanges"] == 1);
    let waiting = (0..200).map(|_| connect(address(&proxy)));
    let waiting: Vec<_> = waiting
        .map(|mut stream| {
            stream.write_all(GET).unwrap();
            stream
        })
        .collect();
    thread::scope(|scope| {
        scope.spawn(|| close(&proxy));
        for mut stream in waiting {
            let answer = read_head(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
        }
    });
    assert!(read_head(&mut busy).starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_waits_in_the_queue_is_served_before_a_drain_closes_the_listener() {
    everybody_in_the_queue_is_served(|proxy| {
        assert!(proxy.drain(Duration::ZERO, PATIENCE));
    });
}

#[test]
fn who_waits_in_the_queue_of_a_listener_that_is_removed_is_served() {
    everybody_in_the_queue_is_served(|proxy| {
        proxy.publish(Snapshot { generation: 2, ..Snapshot::default() }).unwrap();
    });
}

#[test]
fn before_it_closes_a_drain_accepts_and_says_goodbye() {
    let upstream = Upstream::echo();
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    let draining = proxy.clone();
    runtime().block_on(async {
        let mut http1 = Client::http1(address(&proxy)).await;
        let mut http2 = Client::http2(address(&proxy)).await;
        assert!(!http1.get("/").await.headers.contains_key("connection"));
        assert_eq!(http2.get("/").await.status, 200);
        let drained = thread::spawn(move || draining.drain(Duration::from_secs(2), PATIENCE));
        loop {
            // A connection that was told to end is not used again; each request is served.
            let answer = http1.get("/").await;
            assert_eq!(answer.status, 200);
            if answer.headers.get("connection").is_some_and(|value| value == "close") {
                break;
            }
        }
        let Client::Http2(sender) = &mut http2 else { unreachable!() };
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
        let late = Client::http1(address(&proxy)).await.get("/").await;
        assert_eq!(
            (late.status.as_u16(), &late.headers["connection"]),
            (200, &"close".parse().unwrap())
        );
        assert_eq!(Client::http2(address(&proxy)).await.get("/").await.status, 200);
        assert!(tokio::task::spawn_blocking(|| drained.join().unwrap()).await.unwrap());
    });
}

#[test]
fn a_drain_waits_for_what_is_in_flight_but_not_for_ever() {
    let (upstream, go) = gated();
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    let mut client = connect(address(&proxy));
    client.write_all(GET).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    assert!(!proxy.drain(Duration::ZERO, Duration::from_millis(50)));
    assert!(std::net::TcpStream::connect(address(&proxy)).is_err(), "nothing is accepted");
    go.send(()).unwrap();
    assert_eq!(read_rest(&mut client), "half more");
}

#[test]
fn a_drain_ends_when_what_is_in_flight_ends() {
    let (upstream, go) = gated();
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    let (mut client, mut idle) = (connect(address(&proxy)), connect(address(&proxy)));
    client.write_all(GET).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    let draining = proxy.clone();
    let drained = thread::spawn(move || draining.drain(Duration::ZERO, PATIENCE));
    assert_eq!(read_rest(&mut idle), "", "a client that sends nothing is not waited for");
    go.send(()).unwrap();
    assert_eq!(read_rest(&mut client), "half more");
    assert!(drained.join().unwrap());
}

#[test]
fn a_listener_that_is_removed_lets_its_exchanges_finish() {
    let (upstream, go) = gated();
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    let web = address(&proxy);
    let mut client = connect(web);
    client.write_all(GET).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    let mut next = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    next.generation = 2;
    next.listeners = vec![Arc::new(listener("other"))];
    proxy.publish(next).unwrap();
    eventually("nothing is accepted", || std::net::TcpStream::connect(web).is_err());
    go.send(()).unwrap();
    assert_eq!(read_rest(&mut client), "half more");
    go.send(()).unwrap();
    let answer = raw(address(&proxy), GET, "half more");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    eventually("the old generation ends", || super::generations(&proxy) == [2]);
}

#[test]
fn a_port_that_is_in_use_is_refused_and_nothing_changes() {
    let upstream = Upstream::echo();
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut next = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    next.generation = 2;
    let mut other = listener("other");
    other.address = taken.local_addr().unwrap();
    next.listeners.push(Arc::new(other));
    let refusal = proxy.publish(next).unwrap_err();
    assert!(matches!(&refusal, Refusal::Listener { name, .. } if name == "other"), "{refusal}");
    assert_eq!((proxy.addresses().len(), status(&proxy)["generation"].clone()), (1, 1.into()));
    assert!(raw(address(&proxy), GET, "GET /").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_client_that_does_nothing_for_too_long_is_left() {
    let upstream = Upstream::echo();
    let mut snapshot = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    snapshot.limits.idle_timeout = Duration::from_millis(50);
    let proxy = start(snapshot);
    assert_eq!(read_rest(&mut connect(address(&proxy))), "", "without a request");
    assert!(raw(address(&proxy), GET, "").starts_with("HTTP/1.1 200 "), "after one");
    runtime().block_on(async {
        let mut client = Client::http2(address(&proxy)).await;
        assert_eq!(client.get("/").await.status, 200);
        let Client::Http2(sender) = &mut client else { unreachable!() };
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn neither_a_slow_body_nor_a_long_response_runs_into_the_header_timeout() {
    let (upstream, go) = gated();
    let mut snapshot = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    snapshot.limits.request_header_timeout = Duration::from_millis(50);
    let proxy = start(snapshot);
    let outlast = || {
        let answer = raw(address(&proxy), b"GET / HT", "");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    };
    let mut client = connect(address(&proxy));
    client.write_all(b"POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 4\r\n\r\nbo").unwrap();
    outlast();
    client.write_all(b"dy").unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    outlast();
    go.send(()).unwrap();
    assert_eq!(read_exactly(&mut client, 9), b"half more");
    outlast();
    client.write_all(GET).unwrap();
    go.send(()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_request_in_flight_on_http2_outlives_the_goodbye() {
    let (upstream, go) = gated();
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    runtime().block_on(async {
        let mut client = Client::http2(address(&proxy)).await;
        let get = request("GET", "/").body(Full::<Bytes>::default()).unwrap();
        let response = client.open(get).await.unwrap();
        let draining = proxy.clone();
        let drained = thread::spawn(move || draining.drain(Duration::ZERO, PATIENCE));
        eventually("nothing is accepted", || {
            std::net::TcpStream::connect(address(&proxy)).is_err()
        });
        go.send(()).unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "half more");
        assert!(tokio::task::spawn_blocking(|| drained.join().unwrap()).await.unwrap());
    });
}

#[test]
fn a_listener_gets_another_name_on_the_same_address_without_a_failed_request() {
    let upstream = Upstream::echo();
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    let web = address(&proxy);
    let mut kept = connect(web);
    kept.write_all(GET).unwrap();
    assert!(read_head(&mut kept).starts_with("HTTP/1.1 200 "));
    assert_eq!(read_exactly(&mut kept, 5), b"GET /");
    let mut waiting = connect(web);
    let mut next = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    next.generation = 2;
    let mut renamed = listener("renamed");
    renamed.address = web;
    next.listeners = vec![Arc::new(renamed)];
    proxy.publish(next).unwrap();
    assert_eq!(proxy.addresses(), [("renamed".to_owned(), web)]);
    waiting.write_all(GET).unwrap();
    assert!(read_head(&mut waiting).starts_with("HTTP/1.1 200 "), "it had connected before");
    assert_eq!(read_rest(&mut kept), "", "an idle connection ends");
    for _ in 0..20 {
        assert!(raw(web, GET, "GET /").starts_with("HTTP/1.1 200 "));
    }
    eventually("the old generation ends", || super::generations(&proxy) == [2]);
}

#[test]
fn filters_are_told_that_the_process_ends_and_get_their_last_call_through() {
    let (app, auth) = (Upstream::echo(), Upstream::echo());
    let mut snapshot = snapshot(BackendProtocol::Http, app.address, |_| {});
    snapshot.backends.push(backend("default/auth", BackendProtocol::Http, auth.address));
    let flushing = calling_from(
        r#"(func (export "proxy_on_done") (param i32) (result i32)
             (drop (call $ask)) (i32.const 0))
           (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
             (drop (call $done)))"#,
    );
    let proxy = start(filtered(snapshot, vec![flushing]));
    assert!(proxy.drain(Duration::ZERO, PATIENCE));
    assert_eq!(auth.next().head.uri.path(), "/check");
    assert_eq!(status(&proxy)["filters"][0]["instances"], 0);
}
