//! Timeouts, retries, and connections that die.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use portcullis_proxy::snapshot::*;

use super::{
    Scripted, connect, filtered, generations, read_exactly, read_head, read_rest, snapshot,
};
use crate::guests::{filter, rewriter};
use crate::harness::{
    Client, PATIENCE, Unserved, Upstream, address, eventually, raw, request, runtime, start,
};

const SHORT: Option<Duration> = Some(Duration::from_millis(50));

fn retry(codes: &[u16], attempts: u32) -> Option<Retry> {
    let codes = codes.iter().copied().collect();
    Some(Retry { codes, attempts, backoff: Duration::from_millis(1) })
}

/// Fails the first `failures` requests with 503.
fn failing(failures: usize) -> Upstream {
    let served = AtomicUsize::new(0);
    Upstream::answering(move |_| {
        let fails = served.fetch_add(1, Ordering::SeqCst) < failures;
        let status = if fails { 503 } else { 200 };
        Response::builder().status(status).body(Bytes::from_static(b"answer")).unwrap()
    })
}

#[test]
fn an_upstream_that_does_not_answer_in_time_is_a_504() {
    let silent = Scripted::new(|stream| drop(read_rest(stream)));
    for (timeouts, code) in [
        (Timeouts { request: SHORT, backend_request: None }, "P0706"),
        (Timeouts { request: None, backend_request: SHORT }, "P0706"),
    ] {
        let proxy = start(snapshot(BackendProtocol::Http, silent.address, |rule| {
            rule.timeouts = timeouts;
        }));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let answer = client.get("/").await;
                assert_eq!(
                    (answer.status.as_u16(), &answer.headers["x-portcullis-code"]),
                    (504, &code.parse().unwrap())
                );
            }
        });
    }
}

#[test]
fn a_body_that_does_not_end_in_time_is_broken_off() {
    let half = Scripted::canned("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    // Long enough for the head on a busy machine.
    let limit = Some(Duration::from_millis(500));
    for timeouts in [
        Timeouts { request: limit, backend_request: None },
        Timeouts { request: None, backend_request: limit },
    ] {
        let proxy = start(snapshot(BackendProtocol::Http, half.address, |rule| {
            rule.timeouts = timeouts;
        }));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let request = request("GET", "/").body(Full::default()).unwrap();
                // A client that was slow to look sees only the reset.
                if let Ok(response) = client.open(request).await {
                    assert_eq!(response.status(), 200);
                    assert!(response.into_body().collect().await.is_err());
                }
            }
        });
    }
}

#[test]
fn a_response_that_a_filter_holds_is_a_504_when_it_does_not_end_in_time() {
    let half = Scripted::canned("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    let snapshot = snapshot(BackendProtocol::Http, half.address, |rule| {
        rule.timeouts.request = SHORT;
    });
    let proxy = start(filtered(snapshot, vec![rewriter("replaced")]));
    runtime().block_on(async {
        assert_eq!(Client::http1(address(&proxy)).await.get("/").await.status, 504);
    });
}

#[test]
fn trailers_that_a_filter_holds_are_given_up_when_their_time_is_over() {
    let holding = || {
        let hold = r#"(func (export "proxy_on_response_trailers") (param i32 i32) (result i32)
                        (i32.const 1))"#;
        filter("holding", &[], hold)
    };
    let only = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-end: yes\r\n\r\n";
    let upstream = Scripted::canned(only);
    // Long enough for the head on a busy machine.
    let limit = Some(Duration::from_millis(500));
    for timeouts in [
        Timeouts { request: limit, backend_request: None },
        Timeouts { request: None, backend_request: limit },
    ] {
        let snapshot = snapshot(BackendProtocol::Http, upstream.address, |rule| {
            rule.timeouts = timeouts;
        });
        let proxy = start(filtered(snapshot, vec![holding()]));
        runtime().block_on(async {
            let mut client = Client::http1(address(&proxy)).await;
            let request = request("GET", "/").body(Full::default()).unwrap();
            // A client that was slow to look sees only the reset.
            if let Ok(response) = client.open(request).await {
                assert_eq!(response.status(), 200);
                let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await;
                assert!(body.expect("it is given up").is_err());
            }
        });
    }
}

#[test]
fn a_listed_status_is_retried_as_often_as_the_rule_says() {
    for (failures, attempts, status, sent) in [(2, 2, 200, 3), (2, 1, 503, 2), (1, 0, 503, 1)] {
        let upstream = failing(failures);
        let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |rule| {
            rule.retry = retry(&[503], attempts);
        }));
        runtime().block_on(async {
            let post = request("POST", "/").body(Full::from("body")).unwrap();
            assert_eq!(Client::http1(address(&proxy)).await.send(post).await.status, status);
        });
        for _ in 0..sent {
            assert_eq!(upstream.next().body, "body");
        }
        assert_eq!(upstream.pending(), 0, "{failures} failures, {attempts} retries");
    }
}

#[test]
fn a_status_that_is_not_listed_is_passed_on() {
    let upstream = failing(1);
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |rule| {
        rule.retry = retry(&[500], 3);
    }));
    runtime().block_on(async {
        assert_eq!(Client::http1(address(&proxy)).await.get("/").await.status, 503);
    });
}

#[test]
fn an_endpoint_that_refuses_connections_is_passed_over() {
    let upstream = Upstream::echo();
    let closed = Unserved::new();
    let mut snapshot = snapshot(BackendProtocol::Http, upstream.address, |rule| {
        rule.retry = retry(&[], 1);
    });
    let mut backend = (*snapshot.backends[0]).clone();
    backend.endpoints.push(Endpoint { address: EndpointAddress::Ip(closed.address()), weight: 1 });
    snapshot.backends[0] = Arc::new(backend);
    let proxy = start(snapshot);
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        for _ in 0..4 {
            let post = request("POST", "/").body(Full::from("body")).unwrap();
            assert_eq!(client.send(post).await.body, "body");
        }
    });
    let metrics = proxy.metrics();
    let failures = "portcullis_upstream_connect_failures_total{backend=\"default/app\"} 0\n";
    assert!(!metrics.contains(failures), "{metrics}");
    let open = "portcullis_upstream_connections_active{backend=\"default/app\"} 1\n";
    assert!(metrics.contains(open), "{metrics}");
}

#[test]
fn a_body_is_sent_again_only_while_it_was_kept() {
    for (length, status, sent) in [(64 << 10, 200, 2), ((64 << 10) + 1, 503, 1)] {
        for protocol in [BackendProtocol::Http, BackendProtocol::H2c] {
            let upstream = failing(1);
            let proxy = start(snapshot(protocol, upstream.address, |rule| {
                rule.retry = retry(&[503], 1);
            }));
            runtime().block_on(async {
                let body = Full::from(Bytes::from(vec![b'b'; length]));
                let post = request("POST", "/").body(body).unwrap();
                assert_eq!(Client::http1(address(&proxy)).await.send(post).await.status, status);
            });
            for _ in 0..sent {
                assert_eq!(upstream.next().body.len(), length);
            }
            assert_eq!(upstream.pending(), 0);
        }
    }
}

#[test]
fn only_what_may_be_repeated_is_sent_again_when_the_connection_breaks() {
    for (method, connections) in [("GET", 3), ("POST", 1)] {
        let hanging_up = Scripted::new(|stream| drop(read_head(stream)));
        let proxy = start(snapshot(BackendProtocol::Http, hanging_up.address, |rule| {
            rule.retry = retry(&[503], 2);
        }));
        runtime().block_on(async {
            let request = request(method, "/").body(Full::default()).unwrap();
            assert_eq!(Client::http1(address(&proxy)).await.send(request).await.status, 503);
        });
        assert_eq!(hanging_up.opened(), connections, "{method}");
    }
}

#[test]
fn a_kept_connection_that_ends_is_replaced_where_that_is_safe() {
    for (method, status, connections) in [("GET", 200, 2), ("POST", 503, 1)] {
        let once = Scripted::new(|stream| {
            drop(read_head(stream));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            drop(read_head(stream));
        });
        let proxy = start(snapshot(BackendProtocol::Http, once.address, |_| {}));
        runtime().block_on(async {
            let mut client = Client::http1(address(&proxy)).await;
            assert_eq!(client.get("/").await.status, 200);
            let request = request(method, "/").body(Full::default()).unwrap();
            assert_eq!(client.send(request).await.status, status, "{method}");
        });
        assert_eq!(once.opened(), connections, "{method}");
    }
}

#[test]
fn streams_that_are_refused_again_and_again_are_given_up() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let refusing = Scripted::new(move |stream| {
        let (stream, count) = (stream.try_clone().unwrap(), count.clone());
        stream.set_nonblocking(true).unwrap();
        runtime().block_on(async move {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            respond.send_response(Response::new(()), true).unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
        });
    });
    let proxy = start(snapshot(BackendProtocol::H2c, refusing.address, |_| {}));
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(client.get("/").await.status, 503);
    });
    assert_eq!(refused.load(Ordering::SeqCst), 2);
}

#[test]
fn an_upstream_that_answers_early_and_reads_no_more_holds_nothing_of_the_exchange() {
    const BODY: usize = 16 << 20;
    let early = Scripted::new(|stream| {
        drop(read_head(stream));
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").unwrap();
        std::thread::park_timeout(PATIENCE);
    });
    let proxy = start(snapshot(BackendProtocol::Http, early.address, |_| {}));
    let mut client = connect(address(&proxy));
    let head = format!("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: {BODY}\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    let mut sender = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || drop(sender.write_all(&vec![b'x'; BODY])));
    assert!(read_head(&mut client).starts_with("HTTP/1.1 413 "));
    let mut next = snapshot(BackendProtocol::Http, early.address, |_| {});
    next.generation = 2;
    proxy.publish(next).unwrap();
    eventually("the old generation ends", || generations(&proxy) == [2]);
    let open = "portcullis_upstream_connections_active{backend=\"default/app\"} 0\n";
    eventually("the connection is given up", || proxy.metrics().contains(open));
    drop(client);
    sending.join().unwrap();
}

#[test]
fn a_client_that_goes_away_takes_its_request_to_the_upstream_with_it() {
    let upstream = Scripted::new(|stream| drop(read_rest(stream)));
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    let mut client = connect(address(&proxy));
    client.write_all(b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").unwrap();
    eventually("the request is there", || upstream.opened() == 1);
    drop(client);
    super::until_nothing_is_in_flight(&proxy);
    // The proxy serves on.
    let echo = Upstream::echo();
    proxy.publish(snapshot(BackendProtocol::Http, echo.address, |_| {})).unwrap();
    let answer = raw(address(&proxy), b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n", "GET /");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_request_whose_body_breaks_off_reaches_no_upstream_whole() {
    let upstream = Scripted::new(|stream| {
        drop(read_head(stream));
        assert_eq!(read_exactly(stream, 4), b"half");
        assert_eq!(read_rest(stream), "");
    });
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    let mut client = connect(address(&proxy));
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 10\r\n\r\nhalf")
        .unwrap();
    eventually("the request is there", || upstream.opened() == 1);
    drop(client);
    super::until_nothing_is_in_flight(&proxy);
}
