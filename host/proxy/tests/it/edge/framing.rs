//! Messages without a body, without a length, and with the client's consent to send one.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Response};
use http_body_util::Full;
use portcullis_proxy::snapshot::*;

use super::{Scripted, connect, filtered, read_exactly, read_head, read_rest, snapshot};
use crate::guests::{denier, filter, marker};
use crate::harness::{Client, Upstream, address, raw, request, runtime, start};

#[test]
fn a_client_that_waits_for_consent_gets_it_and_the_upstream_is_not_asked() {
    let upstream = Upstream::echo();
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    let mut client = connect(address(&proxy));
    client
        .write_all(
            b"POST / HTTP/1.1\r\nhost: app.test\r\nexpect: 100-continue\r\n\
              content-length: 4\r\nconnection: close\r\n\r\n",
        )
        .unwrap();
    assert_eq!(read_head(&mut client), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").unwrap();
    let answer = read_rest(&mut client);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("body"), "{answer}");
    assert!(!upstream.next().head.headers.contains_key("expect"));
}

#[test]
fn a_client_that_waits_for_consent_is_told_no_by_a_filter() {
    let upstream = Upstream::echo();
    let plain = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(filtered(plain, vec![denier()]));
    let request = b"POST / HTTP/1.1\r\nhost: app.test\r\nexpect: 100-continue\r\nx-deny: 1\r\n\
                    content-length: 4\r\n\r\n";
    let answer = raw(address(&proxy), request, "denied by filter");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn the_answer_to_head_keeps_its_length_and_has_no_body() {
    let upstream = Scripted::new(|stream| {
        loop {
            let body = match read_head(stream).as_bytes() {
                [] => return,
                [b'H', ..] => "",
                _ => "hello",
            };
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    let plain = || snapshot(BackendProtocol::Http, upstream.address, |_| {});
    for snapshot in [plain(), filtered(plain(), vec![marker("one", "1")])] {
        let proxy = start(snapshot);
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let head = request("HEAD", "/").body(Full::default()).unwrap();
                let answer = client.send(head).await;
                assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
                assert_eq!(answer.headers[CONTENT_LENGTH], "5");
                assert_eq!(client.get("/").await.body, "hello");
            }
        });
    }
}

#[test]
fn an_answer_of_ours_to_head_has_no_body_either() {
    let upstream = Upstream::echo();
    let mut without_route = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    without_route.routes.clear();
    let replying = filter(
        "replying",
        &[("d", "d"), ("b", "denied")],
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (drop (call $reply (i32.const 403) $d$ $b$ (i32.const 0) (i32.const 0) (i32.const -1)))
             (i32.const 1))"#,
    );
    let replaced =
        filtered(snapshot(BackendProtocol::Http, upstream.address, |_| {}), vec![replying]);
    for (snapshot, status) in [(without_route, 404), (replaced, 403)] {
        let proxy = start(snapshot);
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                for _ in 0..2 {
                    let head = request("HEAD", "/").body(Full::default()).unwrap();
                    let answer = client.send(head).await;
                    assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0));
                }
            }
        });
    }
}

#[test]
fn answers_that_have_no_body_pass() {
    for (line, status) in [("204 No Content", 204), ("304 Not Modified\r\netag: \"x\"", 304)] {
        let text: &'static str = format!("HTTP/1.1 {line}\r\n\r\n").leak();
        let upstream = Scripted::canned(text);
        let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                for _ in 0..2 {
                    let answer = client.get("/").await;
                    assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0));
                    assert!(!answer.headers.contains_key(TRANSFER_ENCODING));
                }
            }
        });
    }
}

#[test]
fn an_answer_that_a_filter_has_made_bodiless_has_none() {
    let upstream = Upstream::echo();
    for status in [204_u16, 304] {
        let text: &'static str = status.to_string().leak();
        let emptying = filter(
            "emptying",
            &[("s", ":status"), ("v", text)],
            r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
                 (drop (call $replace (i32.const 2) $s$ $v$)) (i32.const 0))"#,
        );
        let plain = snapshot(BackendProtocol::Http, upstream.address, |_| {});
        let proxy = start(filtered(plain, vec![emptying]));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                for _ in 0..2 {
                    let body = Full::from(Bytes::from_static(b"echoed"));
                    let answer = client.send(request("POST", "/").body(body).unwrap()).await;
                    assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0));
                }
            }
        });
    }
}

#[test]
fn a_body_that_ends_with_the_upstreams_connection_arrives_whole() {
    let upstream = Scripted::new(|stream| {
        drop(read_head(stream));
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").unwrap();
    });
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    runtime().block_on(async {
        for mut client in
            [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
        {
            for _ in 0..2 {
                assert_eq!(client.get("/").await.body, "until the end");
            }
        }
    });
    let old = raw(address(&proxy), b"GET / HTTP/1.0\r\nhost: app.test\r\n\r\n", "");
    // The version says what we understand, not what the client does (RFC 9110, 6.2).
    assert!(old.starts_with("HTTP/1.1 200 OK\r\n"), "{old}");
    assert!(old.ends_with("\r\n\r\nuntil the end"), "{old}");
    assert!(!old.to_ascii_lowercase().contains("transfer-encoding"), "{old}");
    let nameless = raw(address(&proxy), b"GET / HTTP/1.0\r\n\r\n", "");
    assert!(nameless.ends_with("until the end"), "{nameless}");
}

#[test]
fn no_modifier_changes_how_a_message_is_framed() {
    let upstream = Upstream::echo();
    let value = HeaderValue::from_static;
    let names = [CONTENT_LENGTH, TRANSFER_ENCODING, HeaderName::from_static("upgrade")];
    let setting = HeaderModifier {
        set: vec![
            (CONTENT_LENGTH, value("1")),
            (TRANSFER_ENCODING, value("chunked")),
            (HeaderName::from_static("x-set"), value("1")),
        ],
        ..HeaderModifier::default()
    };
    let removing = HeaderModifier { remove: names.to_vec(), ..HeaderModifier::default() };
    for modifier in [setting, removing] {
        for protocol in [BackendProtocol::Http, BackendProtocol::H2c] {
            let proxy = start(snapshot(protocol, upstream.address, |rule| {
                rule.filters = vec![
                    RouteFilter::RequestHeaders(modifier.clone()),
                    RouteFilter::ResponseHeaders(modifier.clone()),
                ];
            }));
            runtime().block_on(async {
                for mut client in
                    [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
                {
                    for _ in 0..2 {
                        let post = request("POST", "/").body(Full::from("body")).unwrap();
                        let answer = client.send(post).await;
                        assert_eq!(
                            (&*answer.body, upstream.next().body),
                            (&b"body"[..], "body".into())
                        );
                        assert_eq!(answer.headers[CONTENT_LENGTH], "4");
                    }
                }
            });
        }
    }
}

/// Appends to each body when it ends, and holds nothing back.
fn appending() -> Filter {
    filter(
        "appending",
        &[("a", "!")],
        r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
             (if (local.get 2) (then
               (drop (call $set_body (i32.const 1) (i32.const 0x7fffffff) (i32.const 0) $a$))))
             (i32.const 0))"#,
    )
}

#[test]
fn a_body_that_grows_after_its_head_has_left_is_broken_off_and_never_cut_short() {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let upstream = Scripted::new(move |stream| {
        drop(read_head(stream));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\none").unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"two").unwrap();
    });
    let plain = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(filtered(plain, vec![appending()]));
    let mut client = connect(address(&proxy));
    client.write_all(b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").unwrap();
    let head = read_head(&mut client);
    assert!(head.contains("content-length: 6\r\n"), "{head}");
    assert_eq!(read_exactly(&mut client, 3), b"one");
    go.send(()).unwrap();
    assert_eq!(read_rest(&mut client), "", "the six bytes must not be completed");
}

#[test]
fn a_body_that_passes_at_once_gets_its_true_length() {
    let upstream = Upstream::answering(|seen| {
        let body = if seen.head.method == Method::HEAD { "" } else { "six" };
        Response::new(Bytes::from_static(body.as_bytes()))
    });
    let plain = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(filtered(plain, vec![appending()]));
    runtime().block_on(async {
        let answer = Client::http1(address(&proxy)).await.get("/").await;
        assert_eq!(
            (&*answer.body, &answer.headers[CONTENT_LENGTH]),
            (&b"six!"[..], &"4".parse().unwrap())
        );
    });
}

/// An upstream that answers one request, and tells its head.
fn telling(answer: &'static str) -> (Scripted, Receiver<String>) {
    let (seen, heads) = channel();
    let seen = Mutex::new(seen);
    let upstream = Scripted::new(move |stream| {
        let head = read_head(stream);
        if !head.is_empty() {
            seen.lock().unwrap().send(head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (upstream, heads)
}

#[test]
fn fields_keep_their_order_repeated_ones_too() {
    let answer = "HTTP/1.1 200 OK\r\nx-b: 1\r\nX-A: 2\r\nx-b: 3\r\ncontent-length: 0\r\n\r\n";
    let (upstream, heads) = telling(answer);
    let ours = |head: &str| {
        let lines =
            head.lines().filter(|line| line.starts_with("x-") && !line.starts_with("x-for"));
        let lines = lines.filter(|line| !line.starts_with("x-request-id"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = || snapshot(BackendProtocol::Http, upstream.address, |_| {});
    for (snapshot, added) in
        [(plain(), &[][..]), (filtered(plain(), vec![marker("one", "1")]), &["x-mark: 1"])]
    {
        let proxy = start(snapshot);
        let mut client = connect(address(&proxy));
        let fields = "X-Z: 1\r\nx-y: 2\r\nx-z: 3\r\nx-a: 4";
        write!(client, "GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n").unwrap();
        let answer = ours(&read_head(&mut client));
        assert_eq!(answer, [&["x-b: 1", "x-a: 2", "x-b: 3"], added].concat());
        let request = ours(&heads.recv().unwrap());
        assert_eq!(request, [&["x-z: 1", "x-y: 2", "x-z: 3", "x-a: 4"], added].concat());
    }
}

#[test]
fn fields_go_on_in_one_way_however_they_were_written() {
    let answer = "HTTP/1.1 200 OK\nx-a:1\r\nX-B: 2 \t\nx-c:\r\ncontent-length: 0\r\n\n";
    let (upstream, heads) = telling(answer);
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    let mut client = connect(address(&proxy));
    client
        .write_all(b"GET / HTTP/1.1\nhost:a\r\nX-A:1\r\nx-B:  2\t \nx-c:\r\nX_D: 3\r\n\r\n")
        .unwrap();
    let answer = read_head(&mut client);
    assert!(answer.contains("\r\nx-a: 1\r\nx-b: 2\r\nx-c: \r\n"), "{answer}");
    let request = heads.recv().unwrap();
    let lines = "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\nx-b: 2\r\nx-c: \r\nx_d: 3\r\n";
    assert!(request.starts_with(lines), "{request}");
}
