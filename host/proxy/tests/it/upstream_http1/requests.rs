//! How requests are written, and what happens when they break or are not wanted.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as HttpBody, Frame};
use portcullis_proxy::snapshot::BackendProtocol::Http;
use portcullis_proxy::upstream::{SendOptions, Stage};
use portcullis_proxy::{Body, BodyError};
use portcullis_vm::RequestHead;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{post, whole};
use crate::upstream_origin::*;

type Next = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// A body whose frames a function gives.
struct Source<F>(F);

impl<F: FnMut(&mut Context<'_>) -> Next + Unpin> HttpBody for Source<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Next {
        (self.0)(context)
    }
}

/// A body of these frames.
fn of(mut frames: VecDeque<Frame<Bytes>>) -> Body {
    Body::stream(Source(move |_: &mut Context<'_>| Poll::Ready(frames.pop_front().map(Ok))))
}

fn frames(pieces: &[&'static str]) -> VecDeque<Frame<Bytes>> {
    pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes()))).collect()
}

/// A client that never stops.
fn endless() -> Body {
    let more = || Frame::data(Bytes::from_static(b"more"));
    Body::stream(Source(move |_: &mut Context<'_>| Poll::Ready(Some(Ok(more())))))
}

/// A client that goes away once it is told to.
fn breaking(gone: Rc<Cell<bool>>) -> Body {
    Body::stream(Source(move |context: &mut Context<'_>| {
        if gone.get() {
            return Poll::Ready(Some(Err("the client has gone".into())));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }))
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
    let body = of(frames);
    let answer = cluster.send(&head, body, &SendOptions::default()).await.unwrap();
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
            let (head, body) = (post(&[("content-length", promised)]), of(frames(&["one"])));
            let sent = cluster.send(&head, body, &SendOptions::default()).await;
            let error = sent.unwrap_err();
            assert_eq!(error.stage, Stage::Sent);
            assert!(error.reason.contains(reason), "{error}");
            until(|| closed.get()).await;
        }
        let cluster = cluster(Http, canned("HTTP/1.1 204 No\r\n\r\n").await);
        let head = post(&[("content-length", "three")]);
        let body = of(frames(&["one"]));
        let error = cluster.send(&head, body, &SendOptions::default()).await.unwrap_err();
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
        let body = of((0..PIECES).map(|_| piece()).collect());
        let head = post(&[("content-length", "13107200")]);
        let answer = cluster.send(&head, body, &SendOptions::default()).await.unwrap();
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
        let (head, body) = (post(&[]), endless());
        let answer = cluster.send(&head, body, &SendOptions::default()).await.unwrap();
        assert_eq!(answer.response.head.status, 413);
        assert_eq!(text(answer).await, "no");
        assert_eq!(cluster.stats().active, 0);
        assert_eq!(cluster.stats().idle, 0);
    });
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
        let body = breaking(gate.clone());
        let answer = cluster.send(&post(&[]), body, &SendOptions::default()).await.unwrap();
        gate.set(true);
        let (body, end) = whole(answer).await;
        assert_eq!(body, b"part");
        assert!(end.unwrap_err().contains("the client has gone"));
        assert_eq!(cluster.stats().idle, 0);
    });
}
