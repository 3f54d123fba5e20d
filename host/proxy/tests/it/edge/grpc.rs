//! Trailers, and gRPC, which lives of them.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_proxy::snapshot::*;
use tokio::net::TcpStream;

use super::{Scripted, connect, filtered, read_head, read_rest, snapshot};
use crate::guests::{denier, filter};
use crate::harness::{Answer, Client, Upstream, address, request, runtime, start};

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert(name, HeaderValue::from_static(value));
    map
}

/// A body that does not tell its length.
struct Unsized<B>(B);

impl<B: Body + Unpin> Body for Unsized<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }
}

/// Answers with a body and trailers after it, and tells what trailers it got.
fn trailing(name: &'static str, announced: &'static str) -> Upstream {
    Upstream::serving(move |request, sender| async move {
        let (head, body) = request.into_parts();
        let collected = body.collect().await.unwrap();
        let seen = crate::harness::Seen {
            head,
            trailers: collected.trailers().cloned(),
            body: collected.to_bytes(),
        };
        drop(sender.send(seen));
        let trailers = std::future::ready(Some(Ok::<_, Infallible>(trailers(name, "0"))));
        let body = Unsized(Full::<Bytes>::from("message").with_trailers(trailers)).boxed();
        let response = Response::builder().header("content-type", "application/grpc");
        match announced {
            "" => response.body(body).unwrap(),
            announced => response.header("trailer", announced).body(body).unwrap(),
        }
    })
}

/// Sends a body with trailers by HTTP/2.
async fn send_trailers(address: SocketAddr, request: http::request::Builder) -> Answer {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let sent = std::future::ready(Some(Ok::<_, Infallible>(trailers("x-sent", "1"))));
    let body = Unsized(Full::<Bytes>::from("question").with_trailers(sent)).boxed();
    let request: Request<_> = request.body(body).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    Answer { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers }
}

#[test]
fn a_unary_call_passes_with_its_trailers() {
    let upstream = trailing("grpc-status", "");
    let proxy = start(snapshot(BackendProtocol::H2c, upstream.address, |_| {}));
    runtime().block_on(async {
        let call = request("POST", "/pkg.Service/Method")
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let answer = send_trailers(address(&proxy), call).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"message"[..]));
        assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
    });
    let seen = upstream.next();
    assert_eq!(seen.head.headers["te"], "trailers");
    assert_eq!(
        (&*seen.body, &seen.trailers.unwrap()["x-sent"]),
        (&b"question"[..], &"1".parse().unwrap())
    );
}

#[test]
fn trailers_of_a_request_reach_http1_only_when_announced() {
    for announced in [true, false] {
        let upstream = trailing("x-sent", "x-sent");
        let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
        runtime().block_on(async {
            let mut post = request("POST", "/").header("te", "trailers");
            if announced {
                post = post.header("trailer", "x-sent");
            }
            let answer = send_trailers(address(&proxy), post).await;
            assert_eq!(answer.body, "message");
            assert_eq!(answer.trailers.unwrap()["x-sent"], "0");
        });
        let seen = upstream.next();
        assert_eq!(seen.body, "question");
        assert_eq!(seen.trailers.is_some_and(|map| map.contains_key("x-sent")), announced);
        let dropped = "portcullis_trailers_dropped_total{direction=\"request\"} 1\n";
        assert_eq!(proxy.metrics().contains(dropped), !announced);
    }
}

#[test]
fn trailers_between_http1_and_http2_pass_both_ways() {
    for protocol in [BackendProtocol::H2c, BackendProtocol::Http] {
        let upstream = trailing("x-sent", "x-sent");
        let proxy = start(snapshot(protocol, upstream.address, |_| {}));
        let mut client = connect(address(&proxy));
        client
            .write_all(
                b"POST / HTTP/1.1\r\nhost: app.test\r\nte: trailers\r\ntrailer: x-sent\r\n\
                  connection: te, close\r\ntransfer-encoding: chunked\r\n\r\n\
                  8\r\nquestion\r\n0\r\nx-sent: 1\r\n\r\n",
            )
            .unwrap();
        let answer = read_rest(&mut client).to_ascii_lowercase();
        assert!(answer.contains("\r\ntrailer: x-sent\r\n"), "{answer}");
        assert!(answer.ends_with("7\r\nmessage\r\n0\r\nx-sent: 0\r\n\r\n"), "{answer}");
        assert_eq!(upstream.next().trailers.unwrap()["x-sent"], "1");
    }
}

#[test]
fn trailers_that_an_http1_client_did_not_ask_for_are_dropped_and_counted() {
    let upstream = trailing("grpc-status", "");
    let proxy = start(snapshot(BackendProtocol::H2c, upstream.address, |_| {}));
    let mut client = connect(address(&proxy));
    client.write_all(b"GET / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n").unwrap();
    let answer = read_rest(&mut client);
    assert!(answer.ends_with("7\r\nmessage\r\n0\r\n\r\n"), "{answer}");
    let counted = "portcullis_trailers_dropped_total{direction=\"response\"} 1\n";
    assert!(proxy.metrics().contains(counted), "{}", proxy.metrics());
}

#[test]
fn an_http1_client_that_asks_gets_the_trailers_of_a_call() {
    let upstream = trailing("grpc-status", "");
    let proxy = start(snapshot(BackendProtocol::H2c, upstream.address, |_| {}));
    let mut client = connect(address(&proxy));
    client
        .write_all(
            b"POST / HTTP/1.1\r\nhost: app.test\r\nte: trailers\r\nconnection: te, close\r\n\
              content-type: application/grpc\r\ncontent-length: 0\r\n\r\n",
        )
        .unwrap();
    let head = read_head(&mut client);
    assert!(head.contains("trailer: grpc-status, "), "{head}");
    let body = read_rest(&mut client);
    assert!(body.ends_with("0\r\ngrpc-status: 0\r\n\r\n"), "{body}");
}

#[test]
fn failures_are_answered_as_grpc_to_who_speaks_it() {
    let upstream = Upstream::echo();
    let plain = || snapshot(BackendProtocol::H2c, upstream.address, |_| {});
    let mut without_route = plain();
    without_route.routes.clear();
    let mut without_endpoint = plain();
    let mut backend = (*without_endpoint.backends[0]).clone();
    backend.endpoints.clear();
    without_endpoint.backends[0] = Arc::new(backend);
    let denied = filtered(plain(), vec![denier()]);
    let silent = Scripted::new(|stream| drop(read_rest(stream)));
    let late = snapshot(BackendProtocol::Http, silent.address, |rule| {
        rule.timeouts.request = Some(std::time::Duration::from_millis(20));
    });
    for (snapshot, status) in
        [(without_route, "12"), (without_endpoint, "14"), (denied, "7"), (late, "4")]
    {
        let proxy = start(snapshot);
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let call = request("POST", "/pkg.Service/Method")
                    .header("content-type", "application/grpc+proto")
                    .header("x-deny", "1")
                    .body(Full::from("question"))
                    .unwrap();
                let answer = client.send(call).await;
                assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
                assert_eq!(answer.headers["content-type"], "application/grpc");
                assert_eq!(answer.headers["grpc-status"], status);
            }
        });
    }
}

#[test]
fn a_filter_sees_and_edits_trailers_and_adds_its_own() {
    let editing = filter(
        "editing",
        &[("k", "x-mark"), ("v", "seen"), ("s", "x-sent")],
        r#"(func $edit (param $map i32) (result i32)
             (if (i32.eqz (call $get (local.get $map) $s$ (i32.const 0) (i32.const 4))) (then
               (drop (call $add (local.get $map) $k$ $v$))))
             (i32.const 0))
           (func (export "proxy_on_request_trailers") (param i32 i32) (result i32)
             (call $edit (i32.const 1)))
           (func (export "proxy_on_response_trailers") (param i32 i32) (result i32)
             (call $edit (i32.const 3)))"#,
    );
    let upstream = trailing("x-sent", "");
    let plain = snapshot(BackendProtocol::H2c, upstream.address, |_| {});
    let proxy = start(filtered(plain, vec![editing]));
    runtime().block_on(async {
        let answer = send_trailers(address(&proxy), request("POST", "/")).await;
        assert_eq!(answer.trailers.unwrap()["x-mark"], "seen");
    });
    assert_eq!(upstream.next().trailers.unwrap()["x-mark"], "seen");

    // A body without trailers gets them, at its end.
    let adding = filter(
        "adding",
        &[("k", "x-mark"), ("v", "added")],
        r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             (if (local.get 2) (then (drop (call $add (i32.const 1) $k$ $v$))))
             (i32.const 0))"#,
    );
    let plain = snapshot(BackendProtocol::H2c, upstream.address, |_| {});
    let proxy = start(filtered(plain, vec![adding]));
    runtime().block_on(async {
        let post = request("POST", "/").body(Full::from("question")).unwrap();
        assert_eq!(Client::http2(address(&proxy)).await.send(post).await.body, "message");
    });
    let seen = upstream.next();
    assert_eq!(
        (&*seen.body, &seen.trailers.unwrap()["x-mark"]),
        (&b"question"[..], &"added".parse().unwrap())
    );
}
