//! gRPC calls and streams of filters, against a gRPC server.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Frame, Incoming};
use portcullis_proxy::Snapshot;
use portcullis_proxy::snapshot::*;
use tokio::sync::mpsc;

use super::{filtered, generations, snapshot};
use crate::guests::filter;
use crate::harness::{
    Answer, Client, PATIENCE, Unserved, Upstream, address, backend, eventually, runtime, start,
};

type Reply = Response<BoxBody<Bytes, Infallible>>;

/// What the server does with a call, by its path; what it notices goes to the channel.
struct Server {
    upstream: Upstream,
    noticed: Receiver<String>,
}

impl Server {
    fn start() -> Server {
        let (sender, noticed) = channel();
        let upstream = Upstream::serving(move |request, _| serve(request, sender.clone()));
        Server { upstream, noticed }
    }

    fn notices(&self, text: &str) {
        assert_eq!(self.noticed.recv_timeout(PATIENCE).unwrap(), text);
    }
}

/// Frames as they come; tells when it is dropped before its end.
struct Frames {
    frames: mpsc::UnboundedReceiver<Frame<Bytes>>,
    abandoned: Option<Sender<String>>,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.frames.poll_recv(context);
        if let Poll::Ready(None) = polled {
            self.abandoned = None;
        }
        polled.map(|frame| frame.map(Ok))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if let Some(abandoned) = self.abandoned.take() {
            drop(abandoned.send("reset".to_owned()));
        }
    }
}

async fn serve(request: http::Request<Incoming>, notices: Sender<String>) -> Reply {
    let (head, mut body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).map_or("-", |value| value.to_str().unwrap());
    let method = head.uri.path().rsplit('/').next().unwrap().to_owned();
    match method.as_str() {
        "" => Response::new(Empty::new().boxed()),
        "Unary" => {
            let (type_, te, timeout) = (text("content-type"), text("te"), text("grpc-timeout"));
            drop(notices.send(format!(
                "{} {type_} {te} {timeout} {}",
                head.uri.path(),
                text("x-key")
            )));
            let asked = messages(body.collect().await.unwrap().to_bytes()).join("+");
            reply(vec![data(&framed(0, &format!("answer to {asked}"))), trailers("0", "")])
        }
        "Denied" => {
            let denied = Response::builder().header("content-type", "application/grpc");
            denied
                .header("grpc-status", "7")
                .header("grpc-message", "no%20entry%21")
                .body(Empty::new().boxed())
                .unwrap()
        }
        "Late" => reply(vec![data(&framed(0, "too early")), trailers("9", "thought%20again")]),
        "Two" => reply(vec![data(&framed(0, "one")), data(&framed(0, "two")), trailers("0", "")]),
        "None" => reply(vec![trailers("0", "")]),
        "Silent" => reply(vec![data(&framed(0, "no status"))]),
        "Broken" => reply(vec![data(&framed(0, "half a message")[..9]), trailers("0", "")]),
        "Compressed" => reply(vec![data(&framed(1, "zzz")), trailers("0", "")]),
        "Huge" => reply(vec![data(&[0, 0, 64, 0, 1]), trailers("0", "")]),
        "Busy" => Response::builder().status(503).body(Empty::new().boxed()).unwrap(),
        "Split" => {
            let bytes = framed(0, "in pieces");
            let pieces = bytes.chunks(4).map(data).chain([trailers("0", "")]);
            reply(pieces.collect())
        }
        "Many" => {
            let parts = ["one", "two", "three"].map(|text| framed(0, text)).concat();
            reply(vec![data(&parts), trailers("0", "")])
        }
        // Answers nothing, and tells when the stream has been reset.
        "Waiting" => {
            let (sender, frames) = mpsc::unbounded_channel();
            sender.send(data(&framed(0, "wait"))).unwrap();
            tokio::spawn(async move {
                while let Some(Ok(_)) = body.frame().await {}
                sender.closed().await;
            });
            streamed(Frames { frames, abandoned: Some(notices) })
        }
        // Gives each message back as soon as it is there.
        "Echo" => {
            let (sender, frames) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                while let Some(Ok(frame)) = body.frame().await {
                    for message in messages(frame.into_data().unwrap_or_default()) {
                        drop(sender.send(data(&framed(0, &format!("echo {message}")))));
                    }
                }
                drop(sender.send(trailers("0", "")));
            });
            streamed(Frames { frames, abandoned: None })
        }
        // Takes nothing of what is sent.
        "Deaf" => {
            let (sender, frames) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                sender.closed().await;
                drop(body);
            });
            streamed(Frames { frames, abandoned: Some(notices) })
        }
        other => panic!("no method {other}"),
    }
}

fn framed(flags: u8, message: &str) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_u8(flags);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message.as_bytes());
    frame.to_vec()
}

fn messages(mut bytes: Bytes) -> Vec<String> {
    let mut found = Vec::new();
    while bytes.remaining() >= 5 {
        assert_eq!(bytes.get_u8(), 0);
        let length = bytes.get_u32() as usize;
        found.push(String::from_utf8(bytes.split_to(length).to_vec()).unwrap());
    }
    found
}

fn data(bytes: &[u8]) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(bytes))
}

fn trailers(status: &'static str, message: &'static str) -> Frame<Bytes> {
    let mut map = HeaderMap::new();
    map.insert("grpc-status", status.parse().unwrap());
    map.insert("grpc-message", message.parse().unwrap());
    Frame::trailers(map)
}

fn reply(frames: Vec<Frame<Bytes>>) -> Reply {
    let (sender, receiver) = mpsc::unbounded_channel();
    frames.into_iter().for_each(|frame| sender.send(frame).unwrap());
    streamed(Frames { frames: receiver, abandoned: None })
}

fn streamed(frames: Frames) -> Reply {
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(frames.boxed()).unwrap()
}

/// Writes down what it is told of, as `initial N;`, `MESSAGE;`, `trailing N;`, `close STATUS TEXT;`.
const NOTES: &str = r#"
    (global $end (mut i32) (i32.const 32768))
    (func $write (param $at i32) (param $size i32)
      (memory.copy (global.get $end) (local.get $at) (local.get $size))
      (global.set $end (i32.add (global.get $end) (local.get $size))))
    (func $digits (param $number i32)
      (if (i32.ge_u (local.get $number) (i32.const 10)) (then
        (call $digits (i32.div_u (local.get $number) (i32.const 10)))))
      (i32.store8 (i32.const 12) (i32.add (i32.const 48)
        (i32.rem_u (local.get $number) (i32.const 10))))
      (call $write (i32.const 12) (i32.const 1)))
    (global $count (mut i32) (i32.const 0))
    (func $noted (result i32) (i32.sub (global.get $end) (i32.const 32768)))
    (func $answer
      (drop (call $effective (global.get $waiting)))
      (drop (call $reply (i32.const 200) (i32.const 0) (i32.const 0)
        (i32.const 32768) (call $noted)
        (i32.const 0) (i32.const 0) (i32.const -1)))
      (global.set $end (i32.const 32768)))
    (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32) (param $size i32)
      (call $write $i$) (call $digits (i32.gt_u (local.get $size) (i32.const 0))) (call $write $s$))
    (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32) (param $size i32)
      (call $write $t$) (call $digits (i32.gt_u (local.get $size) (i32.const 0))) (call $write $s$))
    (func (export "proxy_on_grpc_receive") (param i32) (param $id i32) (param i32)
      (drop (call $get_body (i32.const 5) (i32.const 0) (i32.const -1) (i32.const 4) (i32.const 8)))
      (call $write (i32.load (i32.const 4)) (i32.load (i32.const 8))) (call $write $s$)
      RECEIVED)
    (func (export "proxy_on_grpc_close") (param i32 i32 i32)
      (call $write $c$) (call $digits (local.get 2)) (call $write $b$)
      (drop (call $status (i32.const 0) (i32.const 4) (i32.const 8)))
      (call $write (i32.load (i32.const 4)) (i32.load (i32.const 8))) (call $write $s$)
      CLOSED)"#;

/// A filter that does `head` with each request, and more when it is told of messages and of the end.
fn caller(method: &str, head: &str, received: &str, closed: &str) -> Filter {
    let metadata =
        String::from_utf8([&b"\x01\0\0\0\x05\0\0\0\x01\0\0\0"[..], b"x-key\x001\0"].concat())
            .unwrap();
    let strings = [
        ("u", "rpc"),
        ("v", "test.Service"),
        ("m", method),
        ("p", &*metadata),
        ("q", "question"),
        ("i", "initial "),
        ("t", "trailing "),
        ("c", "close "),
        ("s", ";"),
        ("b", " "),
    ];
    let head = format!(
        r#"(func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
             (global.set $waiting (local.get $id)) {head} (i32.const 1))"#
    );
    let notes = NOTES.replace("RECEIVED", received).replace("CLOSED", closed);
    filter("caller", &strings, &(head + &notes))
}

/// Makes a unary call for each request, and answers with what has become of it.
fn unary(method: &str, timeout: u32) -> Filter {
    let call =
        format!("(drop (call $grpc_call $u$ $v$ $m$ $p$ $q$ (i32.const {timeout}) (i32.const 8)))");
    caller(method, &call, "(call $answer)", "(call $answer)")
}

const OPEN: &str = "(drop (call $grpc_stream $u$ $v$ $m$ $p$ (i32.const 8)))";

/// Opens a stream for each request, does `then`, and answers with what it has been told when the stream is closed.
fn streaming(method: &str, then: &str, received: &str) -> Filter {
    caller(method, &format!("{OPEN} {then}"), received, "(call $answer)")
}

/// The number of the stream, where it has just been opened.
const OPENED: &str = "(i32.load (i32.const 8))";

fn send(stream: &str) -> String {
    format!("(drop (call $grpc_send {stream} $q$ (i32.const 0)))")
}

fn close(stream: &str) -> String {
    format!("(drop (call $grpc_close {stream}))")
}

fn with_rpc(upstream: &Upstream, protocol: BackendProtocol, filter: Filter) -> Snapshot {
    let mut snapshot = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    snapshot.backends.push(backend("default/rpc", protocol, upstream.address));
    filtered(snapshot, vec![filter])
}

fn ask(server: &Server, filter: Filter) -> String {
    let proxy = start(with_rpc(&server.upstream, BackendProtocol::H2c, filter));
    let answer = runtime().block_on(async { Client::http1(address(&proxy)).await.get("/").await });
    text(&answer)
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[test]
fn a_unary_call_is_answered_with_one_message() {
    let server = Server::start();
    assert_eq!(ask(&server, unary("Unary", 2500)), "answer to question;");
    server.notices("/test.Service/Unary application/grpc trailers 2500m 1");
    assert_eq!(ask(&server, unary("Split", 0)), "in pieces;");
}

#[test]
fn whatever_goes_wrong_with_a_unary_call_is_one_close() {
    let server = Server::start();
    for (method, close) in [
        ("Denied", "close 7 no entry!;"),
        ("Late", "close 9 thought again;"),
        ("Two", "close 13 the answer is not one message;"),
        ("None", "close 13 the answer is not one message;"),
        ("Silent", "close 2 the answer has no status;"),
        ("Broken", "close 13 the answer ends within a message;"),
        ("Compressed", "close 13 a message has the flags 1;"),
        ("Huge", "close 8 a message of 4194305 bytes is longer than 4194304;"),
        ("Busy", "close 14 HTTP status 503 Service Unavailable;"),
    ] {
        assert_eq!(ask(&server, unary(method, 5000)), close, "{method}");
    }
}

#[test]
fn a_unary_call_that_takes_too_long_is_given_up() {
    let server = Server::start();
    let close = ask(&server, unary("Waiting", 500));
    assert_eq!(close, "close 4 no answer within 500ms;");
    server.notices("reset");
}

#[test]
fn a_server_that_cannot_be_reached_or_speaks_http1_is_a_close() {
    let gone = Unserved::new();
    let server = Server::start();
    let mut unreachable = with_rpc(&server.upstream, BackendProtocol::H2c, unary("Unary", 0));
    unreachable.backends[1] = backend("default/rpc", BackendProtocol::H2c, gone.address());
    let old = with_rpc(&server.upstream, BackendProtocol::Http, streaming("Echo", "", ""));
    for (snapshot, begins) in [
        (unreachable, "close 14 connect to "),
        (old, "trailing 0;close 14 backend default/rpc speaks HTTP/1.1"),
    ] {
        let proxy = start(snapshot);
        let answer =
            runtime().block_on(async { Client::http1(address(&proxy)).await.get("/").await });
        let text = text(&answer);
        assert!(text.starts_with(begins), "{text}");
    }
}

#[test]
fn a_stream_brings_metadata_messages_and_one_close() {
    let server = Server::start();
    for (method, told) in [
        ("Many", "initial 1;one;two;three;trailing 1;close 0 ;"),
        ("Late", "initial 1;too early;trailing 1;close 9 thought again;"),
        ("Denied", "initial 0;trailing 1;close 7 no entry!;"),
        ("Silent", "initial 1;no status;trailing 0;close 2 the answer has no status;"),
        ("Busy", "trailing 0;close 14 HTTP status 503 Service Unavailable;"),
        ("Broken", "initial 1;trailing 0;close 13 the answer ends within a message;"),
    ] {
        assert_eq!(ask(&server, streaming(method, &close(OPENED), "")), told, "{method}");
    }
}

#[test]
fn both_sides_of_a_stream_talk_in_turn() {
    let server = Server::start();
    let told = "initial 1;echo question;echo question;echo question;";
    // Sends once more for each answer, and has enough when three are there.
    let again = format!(
        "(if (i32.lt_u (call $noted) (i32.const {})) (then {}) (else {}))",
        told.len(),
        send("(local.get $id)"),
        close("(local.get $id)"),
    );
    let all = ask(&server, streaming("Echo", &send(OPENED), &again));
    assert_eq!(all, format!("{told}trailing 1;close 0 ;"));
}

#[test]
fn a_cancelled_stream_is_reset_and_the_guest_hears_no_more_of_it() {
    let server = Server::start();
    let cancel = "(drop (call $grpc_cancel (local.get $id))) (call $answer)";
    assert_eq!(ask(&server, streaming("Waiting", "", cancel)), "initial 1;wait;");
    server.notices("reset");
}

#[test]
fn a_stream_whose_messages_pile_up_is_closed() {
    let server = Server::start();
    let flood = format!(
        "(loop $more
           (drop (call $grpc_send {OPENED} (i32.const 0) (i32.const 65536) (i32.const 0)))
           (global.set $count (i32.add (global.get $count) (i32.const 1)))
           (br_if $more (i32.lt_u (global.get $count) (i32.const 80))))"
    );
    let mut flooding = streaming("Deaf", &flood, "");
    // Five MiB are a lot for one callback of a build that is not optimised.
    Arc::make_mut(&mut flooding.plugin).limits.callback = Duration::from_secs(5);
    let told = ask(&server, flooding);
    assert_eq!(told, "trailing 0;close 8 too much waits to be sent;");
}

#[test]
fn a_stream_outlives_the_exchange_that_opened_it() {
    let server = Server::start();
    let told = "initial 1;echo question;trailing 1;close 0 ;";
    // The first request opens it, the second sends on it, and a later one is answered with what became of it.
    let head = format!(
        "(global.set $count (i32.add (global.get $count) (i32.const 1)))
         (if (i32.eq (global.get $count) (i32.const 1)) (then {OPEN}))
         (if (i32.eq (global.get $count) (i32.const 2)) (then {}))
         (if (i32.lt_u (call $noted) (i32.const {})) (then (return (i32.const 0))))
         (call $answer)",
        send("(i32.const 6)"),
        told.len(),
    );
    let filter = caller("Echo", &head, &close("(local.get $id)"), "");
    let proxy = start(with_rpc(&server.upstream, BackendProtocol::H2c, filter));
    let runtime = runtime();
    let mut client = runtime.block_on(Client::http1(address(&proxy)));
    eventually("the stream ends", || {
        let answer = runtime.block_on(client.get("/"));
        answer.body == told
    });
}

#[test]
fn an_instance_that_ends_leaves_no_stream_behind() {
    let server = Server::start();
    let trapping = streaming("Waiting", "", "(unreachable)");
    let proxy = start(with_rpc(&server.upstream, BackendProtocol::H2c, trapping));
    let answer = runtime().block_on(async { Client::http1(address(&proxy)).await.get("/").await });
    assert_eq!(answer.status, 503);
    server.notices("reset");

    let leaving = caller("Waiting", &format!("{OPEN} (return (i32.const 0))"), "", "");
    let snapshot = with_rpc(&server.upstream, BackendProtocol::H2c, leaving);
    let mut without = filtered(snapshot.clone(), Vec::new());
    without.generation = 2;
    let proxy = start(snapshot);
    let answer = runtime().block_on(async { Client::http1(address(&proxy)).await.get("/").await });
    assert_eq!(answer.status, 200);
    proxy.publish(without).unwrap();
    server.notices("reset");
    eventually("the old generation ends", || generations(&proxy) == [2]);
}

#[test]
fn a_filter_calls_only_whom_it_may() {
    let server = Server::start();
    let call = "(call $digits (call $grpc_call $u$ $v$ $m$ $p$ $q$ (i32.const 0) (i32.const 8)))
                (call $write $s$)
                (call $digits (call $grpc_stream $u$ $v$ $m$ $p$ (i32.const 8))) (call $answer)";
    let mut filter = caller("Unary", call, "", "");
    filter.allow_calls = AllowCalls::Only(["another".to_owned()].into());
    assert_eq!(ask(&server, filter), "4;4");
    assert!(server.noticed.try_recv().is_err());
}
