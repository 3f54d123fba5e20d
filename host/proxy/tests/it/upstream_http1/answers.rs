//! How answers are read.

use portcullis_proxy::snapshot::BackendProtocol::Http;
use portcullis_proxy::upstream::Stage;
use tokio::io::AsyncWriteExt;

use super::whole;
use crate::upstream_origin::*;

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
            assert_eq!((answer.response.head.status.as_u16(), answer.reused), (201, round > 0));
            assert_eq!(answer.response.head.headers.get("x-a"), Some(&b"1"[..]));
            assert!(!answer.response.head.headers.contains("link"));
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
            let headers = &answer.response.head.headers;
            let lengths: Vec<_> = headers.get_all("content-length").collect();
            assert_eq!(lengths, Vec::from_iter(said.map(str::as_bytes)), "{fields}");
            assert_eq!(text(answer).await, "ok", "{fields}");
            assert_eq!(cluster.stats().idle, 1, "{fields}");
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
