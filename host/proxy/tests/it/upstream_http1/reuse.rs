//! Which connections serve again, and which are found to have ended.

use std::cell::Cell;
use std::rc::Rc;

use http::Method;
use portcullis_proxy::Body;
use portcullis_proxy::snapshot::BackendProtocol::Http;
use portcullis_proxy::upstream::SendOptions;
use tokio::io::AsyncWriteExt;

use super::post;
use crate::upstream_origin::*;

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
            let answer = cluster.send(&head, Body::Empty, &SendOptions::default()).await.unwrap();
            assert_eq!(text(answer).await, expected, "{shown}");
            assert_eq!(cluster.stats().idle, idle, "{shown}");
        }
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
        let answer = cluster.send(&post(&[]), Body::Empty, &SendOptions::default()).await.unwrap();
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
        let answer = cluster.send(&post(&[]), Body::Empty, &SendOptions::default()).await.unwrap();
        assert!(!answer.reused);
        assert_eq!(cluster.stats().opened, MANY as u64 + 1);
    });
}
