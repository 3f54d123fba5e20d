//! Bugs that were there once, each with the exchange that showed it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use portcullis_proxy::snapshot::{
    AccessLog, AccessLogFormat, BackendProtocol, FailStrategy, Filter, Retry, RouteFilter,
    RouteKind,
};

use crate::guests::{filter, marker, misbehaving, replacing_later};
use crate::harness::{
    Client, Upstream, address, backend, raw, request, route, rule_to, runtime, simple, start,
};

/// An upstream that answers 503 at once and reads no body, and from the second request on reads all and answers 200.
fn refusing_once() -> (Upstream, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let upstream = Upstream::serving(move |request, _seen| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                let refusal = Response::builder().status(503).header("content-length", "0");
                return refusal.body(Full::default().boxed()).unwrap();
            }
            let length =
                request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
            Response::new(Full::from(length.to_string()).boxed())
        }
    });
    (upstream, requests)
}

#[test]
fn a_retry_never_sends_a_part_of_a_body_as_the_whole() {
    let (upstream, _) = refusing_once();
    let mut rule = rule_to(0);
    let retry =
        Retry { codes: BTreeSet::from([503]), attempts: 3, backoff: Duration::from_millis(300) };
    rule.retry = Some(retry);
    let mut snapshot = simple(BackendProtocol::Http, &upstream);
    snapshot.routes = vec![route(RouteKind::Http, vec![rule])];
    let proxy = start(snapshot);
    let mut bytes =
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            .to_vec();
    for _ in 0..30 {
        bytes.extend_from_slice(b"2000\r\n");
        bytes.extend(std::iter::repeat_n(b'x', 8192));
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    let answer = raw(address(&proxy), &bytes, "");
    let whole = answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n245760");
    assert!(whole || answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[test]
fn a_get_with_a_body_of_unknown_length_keeps_it() {
    let upstream = Upstream::echo();
    let proxy = start(simple(BackendProtocol::Http, &upstream));
    let answer = raw(
        address(&proxy),
        b"GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "",
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(&*upstream.next().body, b"abc");
}

#[test]
fn a_cookie_in_pieces_is_put_together() {
    let upstream = Upstream::echo();
    let proxy = start(simple(BackendProtocol::Http, &upstream));
    runtime().block_on(async {
        let request = request("GET", "/").header("cookie", "a=1").header("cookie", "uid=7");
        Client::http2(address(&proxy)).await.send(request.body(Full::default()).unwrap()).await;
    });
    let seen = upstream.next().head.headers;
    let cookies: Vec<_> = seen.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; uid=7"]);
}

#[test]
fn a_client_cannot_claim_another_scheme() {
    let upstream = Upstream::echo();
    let mut snapshot = simple(BackendProtocol::H2c, &upstream);
    snapshot.limits = portcullis_proxy::snapshot::Limits::default();
    let proxy = start(snapshot);
    runtime().block_on(async {
        let request =
            Request::builder().uri("https://app.test/").body(Full::<Bytes>::default()).unwrap();
        Client::http2(address(&proxy)).await.send(request).await;
    });
    let seen = upstream.next().head;
    assert_eq!(
        (seen.uri.scheme_str(), &seen.headers["x-forwarded-proto"]),
        (Some("http"), &"http".parse().unwrap())
    );
}

#[test]
fn a_filter_before_one_that_trapped_sees_the_answer() {
    let upstream = Upstream::echo();
    let mut snapshot = simple(BackendProtocol::Http, &upstream);
    snapshot.filters = vec![Arc::new(marker("outer", "o")), Arc::new(misbehaving())];
    Arc::make_mut(&mut snapshot.listeners[0]).filters = vec![0, 1];
    let proxy = start(snapshot);
    runtime().block_on(async {
        let bad = request("GET", "/").header("x-trap", "1").body(Full::default()).unwrap();
        let answer = Client::http1(address(&proxy)).await.send(bad).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["x-mark"]),
            (503, &"o".parse().unwrap())
        );
    });
    let line =
        "portcullis_filter_unavailable_total{filter=\"default/misbehaving\",outcome=\"failed\"} 1";
    assert!(proxy.metrics().contains(line), "{}", proxy.metrics());
}

#[test]
fn a_rule_that_names_a_filter_twice_runs_it_once() {
    let upstream = Upstream::echo();
    let mut snapshot = simple(BackendProtocol::Http, &upstream);
    snapshot.filters = vec![Arc::new(marker("twice", "t"))];
    let mut rule = rule_to(0);
    rule.filters = vec![RouteFilter::Wasm(0), RouteFilter::Wasm(0)];
    snapshot.routes = vec![route(RouteKind::Http, vec![rule])];
    let proxy = start(snapshot);
    runtime().block_on(async {
        Client::http1(address(&proxy)).await.get("/").await;
    });
    assert_eq!(upstream.next().head.headers.get_all("x-mark").iter().count(), 1);
}

#[test]
fn a_paused_request_is_ended_by_the_timeout_of_its_route() {
    let upstream = Upstream::echo();
    let for_ever = filter(
        "for-ever",
        &[],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1))"#,
    );
    let mut snapshot = simple(BackendProtocol::Http, &upstream);
    snapshot.filters = vec![Arc::new(for_ever)];
    Arc::make_mut(&mut snapshot.listeners[0]).filters = vec![0];
    let mut rule = rule_to(0);
    rule.timeouts.request = Some(Duration::from_millis(100));
    snapshot.routes = vec![route(RouteKind::Http, vec![rule])];
    let proxy = start(snapshot);
    runtime().block_on(async {
        assert_eq!(Client::http1(address(&proxy)).await.get("/").await.status, 504);
    });
}

#[test]
fn a_filter_that_is_skipped_has_changed_nothing_of_the_body() {
    let upstream = Upstream::echo();
    let half_way = filter(
        "half-way",
        &[("r", "half")],
        r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             (drop (call $set_body (i32.const 0) (i32.const 0) (i32.const 0x7fffffff) $r$))
             (unreachable))"#,
    );
    let mut snapshot = simple(BackendProtocol::Http, &upstream);
    snapshot.filters = vec![Arc::new(Filter { fail: FailStrategy::Open, ..half_way })];
    Arc::make_mut(&mut snapshot.listeners[0]).filters = vec![0];
    let proxy = start(snapshot);
    runtime().block_on(async {
        let whole = Full::from(Bytes::from_static(b"the whole"));
        let answer = Client::http1(address(&proxy))
            .await
            .send(request("POST", "/").body(whole).unwrap())
            .await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"the whole"[..]));
    });
}

#[test]
fn a_refused_request_is_counted_and_logged() {
    let upstream = Upstream::echo();
    let mut snapshot = simple(BackendProtocol::Http, &upstream);
    let file = tempfile::NamedTempFile::new().unwrap();
    snapshot.access_log = Some(AccessLog {
        format: AccessLogFormat::Json,
        path: file.path().display().to_string(),
        filter: None,
        ..AccessLog::default()
    });
    let proxy = start(snapshot);
    let answer = raw(address(&proxy), b"GET /two HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let line = "portcullis_requests_total{listener=\"web\",route=\"\",backend=\"\",code=\"400\",flags=\"DPE\"} 1";
    assert!(proxy.metrics().contains(line), "{}", proxy.metrics());
    proxy.drain(Duration::ZERO, Duration::from_secs(5));
    let log = std::fs::read_to_string(file.path()).unwrap();
    assert!(
        log.contains("\"path\":\"/two\"") && log.contains("\"portcullis_code\":\"P0710\""),
        "{log}"
    );
}

#[test]
fn a_held_body_is_the_filters_own_also_when_its_call_is_answered() {
    let (upstream, auth) = (Upstream::echo(), Upstream::echo());
    let mut snapshot = simple(BackendProtocol::Http, &upstream);
    snapshot.backends.push(backend("default/auth", BackendProtocol::Http, auth.address));
    snapshot.filters = vec![Arc::new(replacing_later())];
    Arc::make_mut(&mut snapshot.listeners[0]).filters = vec![0];
    let proxy = start(snapshot);
    runtime().block_on(async {
        let body = Full::from(Bytes::from(vec![b'x'; 50_000]));
        let request = request("POST", "/").body(body).unwrap();
        let answer = Client::http1(address(&proxy)).await.send(request).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"judged"[..]));
    });
    let seen = upstream.next();
    assert_eq!(
        (&*seen.body, &seen.head.headers["content-length"]),
        (&b"judged"[..], &"6".parse().unwrap())
    );
}
