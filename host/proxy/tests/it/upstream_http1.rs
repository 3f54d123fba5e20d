//! What an HTTP/1 upstream may say, and when: bytes on a socket on one side, the cluster on the other.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use portcullis_proxy::snapshot::BackendProtocol::Http;
use portcullis_proxy::upstream::{SendOptions, Stage, Upstreamed};
use portcullis_proxy::{Body, BodyError};
use portcullis_vm::RequestHead;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::upstream_origin::*;

/// The body as it came, and its trailers or what broke it off.
async fn whole(answer: Upstreamed) -> (Vec<u8>, Result<HeaderMap, String>) {
    let mut body = answer.response.into_body();
    let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(frame)) => trailers = frame.into_trailers().unwrap(),
            Err(error) => return (bytes, Err(error.to_string())),
        }
    }
    (bytes, Ok(trailers))
}

/// A request's body of these frames.
#[derive(Default)]
struct Frames(VecDeque<Frame<Bytes>>);

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn frames(pieces: &[&'static str]) -> VecDeque<Frame<Bytes>> {
    pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes()))).collect()
}

fn post(headers: &[(&'static str, &'static str)]) -> RequestHead {
    let mut head = get("/");
    head.method = Method::POST;
    for (name, value) in headers {
        head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    head
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_the_same_answer() {
    on_worker(async {
        const ANSWER: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
            HTTP/1.1 201 Made\r\nx-a: 1\r\nTransfer-Encoding: Chunked\r\n\r\n\
            3;why=not\r\nabc\r\n00a\r\n0123456789\r\n0\r\nx-sum: 7\r\nx-sum: 8\r\n\r\n";
        let address = raw(|mut stream| async move {
            while !read_head(&mut stream).await.is_empty() {
                for byte in ANSWER.as_bytes() {
                    stream.write_all(&[*byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
        let cluster = cluster(Http, address);
        for round in 0..2 {
            let answer = send(&cluster, "/").await.unwrap();
            assert_eq!((answer.response.status().as_u16(), answer.reused), (201, round > 0));
            assert_eq!(answer.response.headers()["x-a"], "1");
            assert!(!answer.response.headers().contains_key("link"));
            let (body, trailers) = whole(answer).await;
            assert_eq!(body, b"abc0123456789");
            assert_eq!(trailers.unwrap().get_all("x-sum").iter().count(), 2);
        }
        assert_eq!(cluster.stats().opened, 1);
    });
}

#[test]
fn a_head_that_http_does_not_allow_is_a_protocol_error() {
    on_worker(async {
        let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        let many: String = (0..101).map(|at| format!("x-{at}: 1\r\n")).collect();
        let heads = [
            "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned(),
            "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
            "HTTP/1.1 099 Low\r\n\r\n".to_owned(),
            "HTTP/1.1 two OK\r\n\r\n".to_owned(),
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
            with("content-length: 1\r\ncontent-length: 2"),
            with("content-length: 1, 2"),
            with("content-length: +1"),
            with("content-length: -1"),
            with("content-length: 0x1"),
            with("content-length:"),
            with("content-length: 18446744073709551616"),
            with("transfer-encoding: gzip, chunked"),
            with("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
            with("transfer-encoding: xchunked"),
            with("x-a : 1"),
            with("x-a: 1\r\n folded"),
            with("x\u{e9}: 1"),
            with("x-a: 1\u{0}2"),
            with("no colon"),
            with(many.trim_end()),
            with(&format!("x-a: {}", "a".repeat(70 << 10))),
            format!("HTTP/1.1 200 OK\r\nx-endless: {}", "a".repeat(70 << 10)),
        ];
        for head in heads {
            let shown: String = head.chars().take(80).collect();
            let cluster = cluster(Http, canned(head.leak()).await);
            let error = send(&cluster, "/").await.expect_err(&shown);
            assert_eq!(
                (error.stage, error.retry_safe),
                (Stage::Protocol, false),
                "{shown}: {error}"
            );
            assert_eq!(cluster.stats().idle, 0, "{shown}");
        }
    });
}

#[test]
fn a_body_that_contradicts_its_head_breaks_off() {
    on_worker(async {
        let chunked =
            |body: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        let answers = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_owned(), "was closed within"),
            (chunked("3\r\nabc\r\n"), "was closed within"),
            (chunked("9\r\nabc"), "was closed within"),
            (chunked("3\r\nabc\r\n0\r\nx-sum: 7\r\n"), "was closed within"),
            (chunked("3\r\nabcd\r\n0\r\n\r\n"), "longer than its size"),
            (chunked("3\r\nabc\r\nnine\r\n"), "has no size"),
            (chunked("3\r\nabc\r\n\r\n\r\n"), "has no size"),
            (chunked("3\r\nabc\r\n;x\r\n\r\n"), "has no size"),
            (chunked("3\r\nabc\r\n3;a\nb\r\nabc\r\n"), "has no size"),
            (chunked("3\r\nabc\r\n3;a\nb"), "has no size"),
            (
                chunked(&format!("3\r\nabc\r\n3;{}\r\nabc\r\n", "e".repeat(5 << 10))),
                "without an end",
            ),
            (chunked("3\r\nabc\r\n-1\r\n"), "has no size"),
            (chunked("3\r\nabc\r\nfffffffffffffffff\r\n"), "has no size"),
            (chunked("3\r\nabc\r\n0\r\nx sum\r\n\r\n"), "trailers are no HTTP"),
            (chunked(&format!("3\r\nabc\r\n1;{}", "e".repeat(70 << 10))), "without an end"),
            (chunked(&format!("3\r\nabc\r\n0\r\nx: {}", "e".repeat(70 << 10))), "without an end"),
        ];
        for (answer, reason) in answers {
            let shown: String = answer.chars().take(90).collect();
            let answer: &'static str = answer.leak();
            let address = raw(move |mut stream| async move {
                read_head(&mut stream).await;
                // Who has heard enough closes.
                let _closed = stream.write_all(answer.as_bytes()).await;
            })
            .await;
            let cluster = cluster(Http, address);
            let (body, end) = whole(send(&cluster, "/").await.unwrap()).await;
            assert_eq!(body, b"abc", "{shown}");
            let end = end.expect_err(&shown);
            assert!(end.contains(reason), "{shown}: {end}");
            assert_eq!((cluster.stats().active, cluster.stats().idle), (0, 0), "{shown}");
        }
    });
}

#[test]
fn the_length_of_a_body_is_said_in_one_way() {
    on_worker(async {
        let answers = [
            ("content-length: 2\r\ncontent-length: 2", "ok", Some("2")),
            ("content-length: 2 , 2", "ok", Some("2")),
            ("content-length: 9\r\ntransfer-encoding: chunked", "2\r\nok\r\n0\r\n\r\n", None),
        ];
        for (fields, body, said) in answers {
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}");
            let cluster = cluster(Http, canned(answer.leak()).await);
            let answer = send(&cluster, "/").await.unwrap();
            let headers = answer.response.headers();
            let lengths: Vec<_> = headers.get_all("content-length").iter().collect();
            assert_eq!(lengths, Vec::from_iter(said), "{fields}");
            assert_eq!(text(answer).await, "ok", "{fields}");
            assert_eq!(cluster.stats().idle, 1, "{fields}");
        }
    });
}

#[test]
fn a_connection_is_used_again_only_if_the_answer_leaves_it_clean() {
    on_worker(async {
        let ok = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}");
        let old = |fields: &str| format!("HTTP/1.0 200 OK\r\n{fields}content-length: 2\r\n\r\nok");
        let answers = [
            (Method::GET, ok("content-length: 2", "ok"), "ok", 1),
            (Method::GET, ok("content-length: 0", ""), "", 1),
            (Method::GET, ok("connection: close\r\ncontent-length: 2", "ok"), "ok", 0),
            (Method::GET, ok("connection: x-a, Close\r\ncontent-length: 2", "ok"), "ok", 0),
            (Method::GET, ok("content-length: 2", "ok and more"), "ok", 0),
            (Method::GET, ok("transfer-encoding: chunked", "2\r\nok\r\n0\r\n\r\nmore"), "ok", 0),
            (Method::GET, old(""), "ok", 0),
            (Method::GET, old("connection: keep-alive\r\n"), "ok", 1),
            (Method::GET, old("connection: keep-alive, close\r\n"), "ok", 0),
            (Method::GET, "HTTP/1.1 204 No\r\n\r\n".to_owned(), "", 1),
            (Method::GET, "HTTP/1.1 304 No\r\ncontent-length: 9\r\n\r\n".to_owned(), "", 1),
            (Method::HEAD, ok("content-length: 9", ""), "", 1),
            (Method::HEAD, ok("transfer-encoding: chunked", ""), "", 1),
        ];
        for (method, answer, expected, idle) in answers {
            let shown = answer.clone();
            let cluster = cluster(Http, canned(answer.leak()).await);
            let mut head = get("/");
            head.method = method;
            let answer = cluster.send(&head, Body::Empty, SendOptions::default()).await.unwrap();
            assert_eq!(text(answer).await, expected, "{shown}");
            assert_eq!(cluster.stats().idle, idle, "{shown}");
        }
    });
}

#[test]
fn a_body_without_a_length_lasts_as_long_as_its_connection() {
    on_worker(async {
        for fields in ["", "transfer-encoding: identity\r\n"] {
            let address = raw(move |mut stream| async move {
                read_head(&mut stream).await;
                let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                for _ in 0..10 {
                    stream.write_all(&[b'a'; 30_000]).await.unwrap();
                }
            })
            .await;
            let cluster = cluster(Http, address);
            assert_eq!(fetch(&cluster, "/").await.len(), 300_000);
            assert_eq!(cluster.stats().idle, 0);
        }
    });
}

#[test]
fn a_large_body_comes_through_whole() {
    on_worker(async {
        let expected: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        let sent = expected.clone();
        let address = raw(move |mut stream| {
            let sent = sent.clone();
            async move {
                while !read_head(&mut stream).await.is_empty() {
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", sent.len());
                    stream.write_all(head.as_bytes()).await.unwrap();
                    stream.write_all(&sent).await.unwrap();
                }
            }
        })
        .await;
        let cluster = cluster(Http, address);
        for _ in 0..2 {
            let (body, end) = whole(send(&cluster, "/").await.unwrap()).await;
            assert!(body == expected && end.is_ok());
        }
        assert_eq!(cluster.stats().opened, 1);
    });
}

#[test]
fn what_comes_before_it_was_asked_for_ends_the_connection() {
    on_worker(async {
        let spoken = Rc::new(Cell::new(false));
        let note = spoken.clone();
        let address = raw(move |mut stream| {
            let note = note.clone();
            async move {
                read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 204 No\r\n\r\n").await.unwrap();
                tokio::task::yield_now().await;
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
                    .await
                    .unwrap();
                note.set(true);
                read_head(&mut stream).await;
            }
        })
        .await;
        let cluster = cluster(Http, address);
        assert_eq!(fetch(&cluster, "/").await, "");
        until(|| spoken.get() && cluster.stats().idle == 0).await;
        assert_eq!(fetch(&cluster, "/").await, "");
        assert_eq!(cluster.stats().opened, 2);
    });
}

/// Sends a request with a body of these frames; what the upstream gets behind its head has to be `expected`.
async fn is_written(
    head: RequestHead,
    frames: VecDeque<Frame<Bytes>>,
    framing: &'static str,
    expected: &'static str,
) {
    let address = raw(move |mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.contains(framing), "{head}");
        let framings = ["\r\ncontent-length:", "\r\ntransfer-encoding:"];
        assert_eq!(framings.iter().filter(|name| head.contains(**name)).count(), 1, "{head}");
        let mut body = vec![0; expected.len()];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        stream.write_all(b"HTTP/1.1 204 No\r\n\r\n").await.unwrap();
        // Nothing more comes.
        assert_eq!(read_head(&mut stream).await, "");
    })
    .await;
    let cluster = cluster(Http, address);
    let body = Body::stream(Frames(frames));
    let answer = cluster.send(&head, body, SendOptions::default()).await.unwrap();
    assert_eq!(text(answer).await, "");
    assert_eq!(cluster.stats().idle, 1);
}

#[test]
fn a_streamed_body_is_framed_by_its_length_or_in_chunks() {
    on_worker(async {
        let pieces = || frames(&["one", "", " and the end"]);
        let length = post(&[("content-length", "15")]);
        is_written(length, pieces(), "content-length: 15\r\n", "one and the end").await;
        let chunked = "transfer-encoding: chunked\r\n";
        let expected = "3\r\none\r\nc\r\n and the end\r\n0\r\n\r\n";
        is_written(post(&[]), pieces(), chunked, expected).await;
        is_written(post(&[]), frames(&[]), chunked, "0\r\n\r\n").await;
    });
}

#[test]
fn only_trailers_that_were_announced_and_may_be_ones_are_sent() {
    on_worker(async {
        let mut all = frames(&["one"]);
        let trailers = [("x-a", "1"), ("x-b", "2"), ("content-length", "3"), ("x-c", "4")];
        let fields = trailers
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        all.push_back(Frame::trailers(HeaderMap::from_iter(fields)));
        let head = post(&[
            ("trailer", "X-A, content-length"),
            ("trailer", "x-c"),
            ("content-length", "3"),
        ]);
        let expected = "3\r\none\r\n0\r\nx-a: 1\r\nx-c: 4\r\n\r\n";
        is_written(head, all, "transfer-encoding: chunked\r\n", expected).await;
    });
}

#[test]
fn a_request_body_of_another_length_than_promised_breaks_the_request_off() {
    on_worker(async {
        for (promised, reason) in
            [("2", "longer than its content-length"), ("4", "ends 1 bytes before")]
        {
            let closed = Rc::new(Cell::new(false));
            let note = closed.clone();
            let address = raw(move |mut stream| {
                let note = note.clone();
                async move {
                    while stream.read_u8().await.is_ok() {}
                    note.set(true);
                }
            })
            .await;
            let cluster = cluster(Http, address);
            let (head, body) = (post(&[("content-length", promised)]), Frames(frames(&["one"])));
            let sent = cluster.send(&head, Body::stream(body), SendOptions::default()).await;
            let error = sent.unwrap_err();
            assert_eq!(error.stage, Stage::Sent);
            assert!(error.reason.contains(reason), "{error}");
            until(|| closed.get()).await;
        }
        let cluster = cluster(Http, canned("HTTP/1.1 204 No\r\n\r\n").await);
        let head = post(&[("content-length", "three")]);
        let body = Body::stream(Frames(frames(&["one"])));
        let error = cluster.send(&head, body, SendOptions::default()).await.unwrap_err();
        assert_eq!(error.stage, Stage::Request, "{error}");
        assert!(error.body.is_some());
        until(|| cluster.stats().idle == 1).await;
    });
}

#[test]
fn a_request_is_written_on_while_nobody_reads_its_answer() {
    on_worker(async {
        const PIECES: usize = 200;
        let received = Rc::new(Cell::new(0));
        let count = received.clone();
        let address = raw(move |mut stream| {
            let count = count.clone();
            async move {
                read_head(&mut stream).await;
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
                stream.write_all(head).await.unwrap();
                let mut buffer = vec![0; 64 << 10];
                while count.get() < PIECES << 16 {
                    count.set(count.get() + stream.read(&mut buffer).await.unwrap());
                }
                stream.write_all(b"ok").await.unwrap();
                read_head(&mut stream).await;
            }
        })
        .await;
        let cluster = cluster(Http, address);
        let piece = || Frame::data(Bytes::from(vec![b'a'; 1 << 16]));
        let body = Body::stream(Frames((0..PIECES).map(|_| piece()).collect()));
        let head = post(&[("content-length", "13107200")]);
        let answer = cluster.send(&head, body, SendOptions::default()).await.unwrap();
        until(|| received.get() == PIECES << 16).await;
        assert_eq!(text(answer).await, "ok");
        until(|| cluster.stats().idle == 1).await;
    });
}

#[test]
fn an_answer_counts_although_the_request_is_read_no_further() {
    on_worker(async {
        let address = raw(|mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 413 Enough\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
            stream.shutdown().await.unwrap();
            // Takes what comes, so that the answer is not lost to a reset.
            while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        let cluster = cluster(Http, address);
        let (head, body) = (post(&[]), Body::stream(Endless));
        let answer = cluster.send(&head, body, SendOptions::default()).await.unwrap();
        assert_eq!(answer.response.status(), 413);
        assert_eq!(text(answer).await, "no");
        assert_eq!(cluster.stats().active, 0);
        assert_eq!(cluster.stats().idle, 0);
    });
}

/// A client that never stops.
struct Endless;

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        context.waker().wake_by_ref();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
    }
}

#[test]
fn a_body_that_breaks_after_the_answer_has_begun_breaks_the_answer_off() {
    on_worker(async {
        let address = raw(|mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart").await.unwrap();
            while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        let gate = Rc::new(Cell::new(false));
        let cluster = cluster(Http, address);
        let body = Body::stream(Breaking(gate.clone()));
        let answer = cluster.send(&post(&[]), body, SendOptions::default()).await.unwrap();
        gate.set(true);
        let (body, end) = whole(answer).await;
        assert_eq!(body, b"part");
        assert!(end.unwrap_err().contains("the client has gone"));
        assert_eq!(cluster.stats().idle, 0);
    });
}

/// A client that goes away once it is told to.
struct Breaking(Rc<Cell<bool>>);

impl HttpBody for Breaking {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.0.get() {
            return Poll::Ready(Some(Err("the client has gone".into())));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[test]
fn a_connection_that_is_reset_before_anything_is_written_is_replaced() {
    on_worker(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (reset, resets) = std::sync::mpsc::channel();
        let (answered, answers) = std::sync::mpsc::channel();
        let origin = std::thread::spawn(move || {
            for last in [false, true] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
                    head.push(byte[0]);
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                std::io::Write::write_all(&mut stream, answer).unwrap();
                if !last {
                    answers.recv().unwrap();
                    socket2::SockRef::from(&stream)
                        .set_linger(Some(std::time::Duration::ZERO))
                        .unwrap();
                }
                drop(stream);
                reset.send(()).unwrap();
            }
        });
        let cluster = cluster(Http, address);
        assert_eq!(fetch(&cluster, "/").await, "ok");
        answered.send(()).unwrap();
        // Blocks the thread: nobody here can have heard of the reset when the next request goes out.
        resets.recv().unwrap();
        let answer = cluster.send(&post(&[]), Body::Empty, SendOptions::default()).await.unwrap();
        assert!(!answer.reused);
        assert_eq!(text(answer).await, "ok");
        origin.join().unwrap();
    });
}

#[test]
fn however_many_idle_connections_have_ended_none_of_them_is_used() {
    on_worker(async {
        const MANY: usize = 200;
        let (arrived, gone) = (Rc::new(tokio::sync::Barrier::new(MANY)), Rc::new(Cell::new(false)));
        let (together, end) = (arrived.clone(), gone.clone());
        let address = raw(move |mut stream| {
            let (together, end) = (together.clone(), end.clone());
            async move {
                read_head(&mut stream).await;
                if !end.get() {
                    together.wait().await;
                }
                stream.write_all(b"HTTP/1.1 204 No\r\n\r\n").await.unwrap();
                until(|| end.get()).await;
            }
        })
        .await;
        let cluster = cluster(Http, address);
        let requests: Vec<_> = (0..MANY)
            .map(|_| {
                let cluster = cluster.clone();
                tokio::task::spawn_local(async move { fetch(&cluster, "/").await })
            })
            .collect();
        for request in requests {
            request.await.unwrap();
        }
        assert_eq!((cluster.stats().opened, cluster.stats().idle), (MANY as u64, MANY as u64));
        gone.set(true);
        for _ in 0..MANY {
            tokio::task::yield_now().await;
        }
        let answer = cluster.send(&post(&[]), Body::Empty, SendOptions::default()).await.unwrap();
        assert!(!answer.reused);
        assert_eq!(cluster.stats().opened, MANY as u64 + 1);
    });
}
