//! Filters that hold, answer late, close, die, and call out, while the exchange goes on around them.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use portcullis_proxy::Snapshot;
use portcullis_proxy::snapshot::*;

use super::{
    Scripted, connect, filtered, read_exactly, read_head, read_rest, snapshot, status,
    until_nothing_is_in_flight,
};
use crate::guests::{asking, calling, delaying, filter, marker};
use crate::harness::{Client, Upstream, address, backend, eventually, request, runtime, start};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n";

fn plain(upstream: &Upstream) -> Snapshot {
    snapshot(BackendProtocol::Http, upstream.address, |_| {})
}

fn headers_only(mut filter: Filter) -> Filter {
    let mut plugin = (*filter.plugin).clone();
    plugin.allow_on_headers_stop_iteration = true;
    filter.plugin = Arc::new(plugin);
    filter
}

/// Holds both bodies until they end, unchanged.
fn holding() -> Filter {
    filter(
        "holding",
        &[],
        r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             (i32.eqz (local.get 2)))
           (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
             (i32.eqz (local.get 2)))"#,
    )
}

#[test]
fn a_body_that_is_held_to_its_end_passes_whole() {
    let upstream = Upstream::echo();
    for isolated in
        [vec![holding()], vec![marker("one", "1"), holding(), headers_only(waiting_for_the_body())]]
    {
        let proxy = start(filtered(plain(&upstream), isolated));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let body: Vec<u8> = (0..900_000_u32).map(|at| (at / 7) as u8).collect();
                let post = request("POST", "/").body(Full::from(body.clone())).unwrap();
                let answer = client.send(post).await;
                assert!(answer.body == body && upstream.next().body == body);
                assert_eq!(client.get("/").await.body, "GET /");
                upstream.next();
            }
        });
    }
}

/// Holds the head, sees the whole body, and marks the head before both go.
fn waiting_for_the_body() -> Filter {
    filter(
        "waiting",
        &[("k", "x-mark"), ("v", "after the body")],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (i32.eqz (local.get 2)))
           (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             (if (i32.eqz (local.get 2)) (then (return (i32.const 1))))
             (drop (call $add (i32.const 0) $k$ $v$))
             (i32.const 0))"#,
    )
}

#[test]
fn a_head_that_is_held_alone_can_be_edited_when_the_body_is_known() {
    let upstream = Upstream::echo();
    let proxy = start(filtered(plain(&upstream), vec![headers_only(waiting_for_the_body())]));
    runtime().block_on(async {
        for mut client in
            [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
        {
            let body = Full::from(Bytes::from(vec![b'x'; 200_000]));
            let answer = client.send(request("POST", "/").body(body).unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 200_000));
            assert_eq!(upstream.next().head.headers["x-mark"], "after the body");
        }
    });
}

/// Answers by 403 from the named callback, once it is the end of what it sees.
fn replying(callback: &str) -> Filter {
    filter(
        "replying",
        &[("d", "d"), ("b", "denied")],
        &format!(
            r#"(func (export "{callback}") (param i32 i32 i32) (result i32)
                 (if (i32.eqz (local.get 2)) (then (return (i32.const 0))))
                 (drop (call $reply (i32.const 403) $d$ $b$ (i32.const 0) (i32.const 0) (i32.const -1)))
                 (i32.const 1))"#
        ),
    )
}

#[test]
fn a_filter_may_answer_while_it_sees_the_requests_body() {
    let upstream = Upstream::echo();
    let proxy = start(filtered(
        plain(&upstream),
        vec![marker("one", "1"), replying("proxy_on_request_body")],
    ));
    runtime().block_on(async {
        for mut client in
            [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
        {
            let body = Full::from(Bytes::from(vec![b'x'; 400_000]));
            let answer = client.send(request("POST", "/").body(body).unwrap()).await;
            assert_eq!((answer.status.as_u16(), &*answer.body), (403, &b"denied"[..]));
            assert_eq!(answer.headers["x-mark"], "1");
        }
    });
}

#[test]
fn a_filter_may_replace_a_response_by_its_own_before_it_was_sent_but_not_after() {
    let chunked = Scripted::canned(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",
    );
    let replacing = |callback: &str| {
        let body = format!(
            r#"(func (export "{callback}") (param i32 i32 i32) (result i32)
                 (drop (call $reply (i32.const 403) $d$ $b$ (i32.const 0) (i32.const 0) (i32.const -1)))
                 (i32.const 0))"#
        );
        filter("replacing", &[("d", "d"), ("b", "replaced")], &body)
    };
    for (callback, status, body) in
        [("proxy_on_response_headers", 403, "replaced"), ("proxy_on_response_body", 200, "one")]
    {
        let plain = snapshot(BackendProtocol::Http, chunked.address, |_| {});
        let proxy = start(filtered(plain, vec![replacing(callback)]));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                for _ in 0..2 {
                    let answer = client.get("/").await;
                    assert_eq!((answer.status.as_u16(), &*answer.body), (status, body.as_bytes()));
                }
            }
        });
    }
}

/// Resets the exchange from the named callback.
fn closing(callback: &str) -> Filter {
    filter(
        "closing",
        &[],
        &format!(
            r#"(func (export "{callback}") (param i32 i32 i32) (result i32)
                 (drop (call $close (i32.const 0))) (i32.const 1))"#
        ),
    )
}

#[test]
fn a_filter_resets_an_exchange_wherever_it_is() {
    let upstream = Upstream::echo();
    let callbacks = [
        "proxy_on_request_headers",
        "proxy_on_request_body",
        "proxy_on_response_headers",
        "proxy_on_response_body",
    ];
    for callback in callbacks {
        let proxy = start(filtered(plain(&upstream), vec![closing(callback)]));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let post = request("POST", "/").body(Full::from("body")).unwrap();
                let broken = match client.open(post).await {
                    Err(_) => true,
                    Ok(response) => response.into_body().collect().await.is_err(),
                };
                assert!(broken, "{callback}");
            }
        });
        until_nothing_is_in_flight(&proxy);
    }
}

#[test]
fn what_a_dying_filter_held_passes_if_it_fails_open() {
    let upstream = Upstream::echo();
    let dying = filter(
        "dying",
        &[],
        r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             (if (local.get 2) (then (unreachable)))
             (i32.const 1))"#,
    );
    for (fail, status) in [(FailStrategy::Open, 200), (FailStrategy::Close, 503)] {
        let proxy = start(filtered(plain(&upstream), vec![Filter { fail, ..dying.clone() }]));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let body = Full::from(Bytes::from(vec![b'x'; 300_000]));
                let answer = client.send(request("POST", "/").body(body).unwrap()).await;
                assert_eq!(answer.status, status);
                assert_eq!(answer.body.len() == 300_000, status == 200);
            }
        });
    }
}

#[test]
fn a_trap_fails_exactly_those_who_hold_a_context_in_the_instance() {
    let upstream = Upstream::echo();
    let shared = filter(
        "shared",
        &[("t", "x-trap"), ("w", "x-wait")],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (if (call $has $t$) (then (unreachable)))
             (call $has $w$))"#,
    );
    let bystander = filter(
        "bystander",
        &[("w", "x-other")],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $has $w$))"#,
    );
    let proxy = start(filtered(plain(&upstream), vec![bystander, shared]));
    let open = |header: &str| {
        let mut client = connect(address(&proxy));
        let head = format!("GET / HTTP/1.1\r\nhost: app.test\r\n{header}: 1\r\n\r\n");
        client.write_all(head.as_bytes()).unwrap();
        client
    };
    let mut waiting: Vec<_> = (0..3).map(|_| open("x-wait")).collect();
    let other = open("x-other");
    eventually("all wait", || status(&proxy)["exchanges"] == 4);
    assert!(read_head(&mut open("x-trap")).starts_with("HTTP/1.1 503 "));
    for client in &mut waiting {
        assert!(read_head(client).starts_with("HTTP/1.1 503 "));
    }
    // It had not reached the instance that died.
    assert_eq!(status(&proxy)["exchanges"], 1);
    assert!(read_head(&mut open("x-none")).starts_with("HTTP/1.1 200 "));
    drop(other);
    until_nothing_is_in_flight(&proxy);
}

fn with_auth(snapshot: Snapshot, auth: std::net::SocketAddr) -> Snapshot {
    let mut snapshot = snapshot;
    snapshot.backends.push(backend("default/auth", BackendProtocol::Http, auth));
    snapshot
}

#[test]
fn an_answer_may_come_from_the_completion_of_a_call() {
    let (upstream, auth) = (Upstream::echo(), Upstream::echo());
    let denying = calling(
        5000,
        r#"(drop (call $reply (i32.const 401) $u$ $u$ (i32.const 0) (i32.const 0) (i32.const -1)))"#,
    );
    let proxy = start(with_auth(filtered(plain(&upstream), vec![denying]), auth.address));
    runtime().block_on(async {
        for mut client in
            [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
        {
            let answer = client.get("/").await;
            assert_eq!((answer.status.as_u16(), &*answer.body), (401, &b"auth"[..]));
        }
    });
    assert_eq!(upstream.pending(), 0);
}

#[test]
fn a_call_that_is_not_answered_in_time_is_completed_all_the_same() {
    let upstream = Upstream::echo();
    let silent = Scripted::new(|stream| drop(read_rest(stream)));
    let patient = calling(30, "(drop (call $continue (i32.const 0)))");
    let proxy = start(with_auth(filtered(plain(&upstream), vec![patient]), silent.address));
    runtime().block_on(async {
        assert_eq!(Client::http1(address(&proxy)).await.get("/").await.status, 200);
    });
}

#[test]
fn a_call_may_outlive_the_exchange_that_made_it() {
    let upstream = Upstream::echo();
    let (go, wait) = std::sync::mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let auth = Scripted::new(move |stream| {
        while !read_head(stream).is_empty() {
            wait.lock().unwrap().recv().unwrap();
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let proxy = start(with_auth(filtered(plain(&upstream), vec![asking()]), auth.address));
    let mut client = connect(address(&proxy));
    client.write_all(GET).unwrap();
    eventually("the call is made", || auth.opened() == 1);
    drop(client);
    until_nothing_is_in_flight(&proxy);
    go.send(()).unwrap();
    let mut client = connect(address(&proxy));
    client.write_all(GET).unwrap();
    go.send(()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    assert_eq!(status(&proxy)["filters"][0]["state"], "live");
    assert_eq!(upstream.pending(), 1, "the abandoned request went nowhere");
}

#[test]
fn filters_may_pause_in_turn() {
    let (upstream, auth) = (Upstream::echo(), Upstream::echo());
    let filters = vec![asking(), delaying(), headers_only(waiting_for_the_body()), holding()];
    let proxy = start(with_auth(filtered(plain(&upstream), filters), auth.address));
    runtime().block_on(async {
        for mut client in
            [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
        {
            let body = Full::from(Bytes::from(vec![b'x'; 100_000]));
            let answer = client.send(request("POST", "/").body(body).unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 100_000));
        }
    });
}

#[test]
fn a_client_that_goes_away_while_a_filter_pauses_ends_the_exchange() {
    let upstream = Upstream::echo();
    let pausing = filter(
        "pausing",
        &[],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1))"#,
    );
    let proxy = start(filtered(plain(&upstream), vec![pausing]));
    let mut http1 = connect(address(&proxy));
    http1.write_all(GET).unwrap();
    let mut posting = connect(address(&proxy));
    posting.write_all(b"POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 10\r\n\r\n").unwrap();
    runtime().block_on(async {
        let mut http2 = Client::http2(address(&proxy)).await;
        let post = request("POST", "/").body(Full::from(vec![0; 1 << 20])).unwrap();
        let answered = http2.open(post);
        tokio::pin!(answered);
        loop {
            tokio::select! {
                biased;
                _ = &mut answered => panic!("nobody answers"),
                () = tokio::task::yield_now() => {}
            }
            if status(&proxy)["exchanges"] == 3 {
                break;
            }
        }
    });
    eventually("the stream is reset", || status(&proxy)["exchanges"] == 2);
    drop(http1);
    eventually("the client is gone", || status(&proxy)["exchanges"] == 1);
    drop(posting);
    until_nothing_is_in_flight(&proxy);
    assert_eq!(upstream.pending(), 0);
}

#[test]
fn a_trap_in_the_log_phase_costs_no_exchange_anything() {
    let upstream = Scripted::canned("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nonetwo");
    let cutting =
        filter("cutting", &[], r#"(func (export "proxy_on_log") (param i32) (unreachable))"#);
    let proxy =
        start(filtered(snapshot(BackendProtocol::Http, upstream.address, |_| {}), vec![cutting]));
    let mut client = connect(address(&proxy));
    for _ in 0..3 {
        client.write_all(GET).unwrap();
        assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
        assert_eq!(read_exactly(&mut client, 6), b"onetwo");
    }
    let traps = "portcullis_filter_traps_total{filter=\"default/cutting\",reason=\"trap\"} 3\n";
    eventually("the traps are counted", || proxy.metrics().contains(traps));
}
