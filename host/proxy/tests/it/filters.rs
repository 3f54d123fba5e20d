//! What filters can do to exchanges, and what their failures do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use portcullis_proxy::Snapshot;
use portcullis_proxy::snapshot::*;

use crate::guests::{
    asking, asking_at, breeding, delaying, denier, judging, marker, misbehaving, queueing,
    recalling, replacing_in_time, rewriter, starting_once,
};
use crate::harness::{
    Client, Upstream, address, backend, listener, raw, request, runtime, simple, start,
};

/// A proxy's snapshot with these filters on its listener, in this order.
fn with(filters: Vec<Filter>, upstream: &Upstream) -> Snapshot {
    let mut web = listener("web");
    web.filters = (0..filters.len()).collect();
    Snapshot {
        listeners: vec![Arc::new(web)],
        filters: filters.into_iter().map(Arc::new).collect(),
        ..simple(BackendProtocol::Http, upstream)
    }
}

fn marks(headers: &http::HeaderMap) -> Vec<&str> {
    headers.get_all("x-mark").iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn requests_pass_filters_in_order_and_responses_in_reverse() {
    let upstream = Upstream::echo();
    let proxy = start(with(vec![marker("one", "1"), marker("two", "2")], &upstream));
    runtime().block_on(async {
        for mut client in
            [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
        {
            let answer = client.get("/").await;
            assert_eq!(marks(&answer.headers), ["2", "1"]);
            assert_eq!(marks(&upstream.next().head.headers), ["1", "2"]);
        }
    });
}

#[test]
fn a_filter_answers_in_place_of_the_upstream_and_the_filters_before_it_see_the_answer() {
    let upstream = Upstream::echo();
    let proxy = start(with(vec![marker("one", "1"), denier(), marker("two", "2")], &upstream));
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        let denied = client
            .send(request("GET", "/").header("x-deny", "1").body(Full::default()).unwrap())
            .await;
        assert_eq!((denied.status.as_u16(), &*denied.body), (403, &b"denied by filter"[..]));
        assert_eq!(marks(&denied.headers), ["1"]);
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(upstream.next().head.uri.path(), "/");
        assert_eq!(upstream.pending(), 0);
    });
}

#[test]
fn a_body_that_a_filter_replaces_has_the_right_length_on_both_sides() {
    let upstream = Upstream::answering(|_| {
        Response::new(Bytes::from_static(b"from the upstream, quite long"))
    });
    let proxy = start(with(vec![rewriter("replaced")], &upstream));
    runtime().block_on(async {
        for mut client in
            [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
        {
            let body = Full::from(Bytes::from(vec![b'x'; 300_000]));
            let answer = client.send(request("POST", "/").body(body).unwrap()).await;
            assert_eq!(&*answer.body, b"replaced");
            assert_eq!(answer.headers["content-length"], "8");
            let seen = upstream.next();
            assert_eq!(
                (&*seen.body, seen.head.headers["content-length"].to_str().unwrap()),
                (&b"replaced"[..], "8")
            );
        }
    });
}

#[test]
fn a_filter_may_hold_exactly_its_limit_and_not_a_byte_more() {
    let upstream = Upstream::answering(|seen| {
        let length = seen.head.uri.query().unwrap().parse().unwrap();
        Response::new(Bytes::from(vec![b'u'; length]))
    });
    let mut filter = rewriter("replaced");
    let mut plugin = (*filter.plugin).clone();
    plugin.limits.body = 1 << 20;
    filter.plugin = Arc::new(plugin);
    let proxy = start(with(vec![filter], &upstream));
    runtime().block_on(async {
        for (sent, received, status) in
            [(1 << 20, 0, 200), ((1 << 20) + 1, 0, 413), (0, 1 << 20, 200), (0, (1 << 20) + 1, 500)]
        {
            let mut client = Client::http1(address(&proxy)).await;
            let body = Full::from(Bytes::from(vec![b'c'; sent]));
            let answer =
                client.send(request("POST", &format!("/?{received}")).body(body).unwrap()).await;
            assert_eq!(answer.status, status, "{sent} bytes up, {received} bytes down");
        }
    });
}

#[test]
fn a_paused_request_goes_on_when_its_call_is_answered() {
    let (upstream, auth) = (Upstream::echo(), Upstream::echo());
    let mut snapshot = with(vec![asking()], &upstream);
    snapshot.backends.push(backend("default/auth", BackendProtocol::Http, auth.address));
    let proxy = start(snapshot);
    runtime().block_on(async {
        assert_eq!(Client::http1(address(&proxy)).await.get("/").await.status, 200);
        assert_eq!(auth.next().head.uri.path(), "/check");
    });
}

#[test]
fn a_configuration_that_is_refused_takes_no_queue_away() {
    let upstream = Upstream::echo();
    let proxy = start(with(vec![queueing(true)], &upstream));
    let refused = Snapshot { generation: 2, ..with(vec![queueing(false)], &upstream) };
    assert!(proxy.publish(refused).is_err());
    runtime().block_on(async {
        assert_eq!(Client::http1(address(&proxy)).await.get("/").await.status, 200);
    });
}

#[test]
fn a_queue_that_is_never_empty_keeps_nobody_waiting() {
    let upstream = Upstream::echo();
    let proxy = start(with(vec![breeding()], &upstream));
    runtime().block_on(async {
        for _ in 0..20 {
            assert_eq!(Client::http1(address(&proxy)).await.get("/").await.status, 200);
        }
    });
}

#[test]
fn an_istio_name_means_the_backend_of_its_namespace() {
    let (upstream, ours, theirs) = (Upstream::echo(), Upstream::echo(), Upstream::echo());
    let mut snapshot = with(vec![asking_at("outbound|80||auth.prod.svc.cluster.local")], &upstream);
    for (name, auth) in [("default/auth", &ours), ("prod/auth", &theirs)] {
        snapshot.backends.push(backend(name, BackendProtocol::Http, auth.address));
    }
    let proxy = start(snapshot);
    runtime().block_on(async {
        assert_eq!(Client::http1(address(&proxy)).await.get("/").await.status, 200);
    });
    assert_eq!(theirs.next().head.uri.path(), "/check");
    assert_eq!(ours.pending(), 0);
}

/// A request whose body ends in trailers.
const WITH_TRAILERS: &[u8] =
    b"POST / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\ntrailer: x-sum\r\n\
    transfer-encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\nx-sum: 1\r\n\r\n";

#[test]
fn trailers_do_not_carry_a_body_past_a_filter_that_waits_for_a_verdict() {
    let leaked = Arc::new(AtomicBool::new(false));
    let noted = leaked.clone();
    let upstream = Upstream::answering(move |seen| {
        noted.fetch_or(!seen.body.is_empty(), Ordering::SeqCst);
        Response::new(seen.body.clone())
    });
    let auth = Upstream::echo();
    let mut snapshot = with(vec![judging()], &upstream);
    snapshot.backends.push(backend("default/auth", BackendProtocol::Http, auth.address));
    let proxy = start(snapshot);
    let answer = raw(address(&proxy), WITH_TRAILERS, "judged");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(!leaked.load(Ordering::SeqCst));
}

#[test]
fn trailers_end_the_wait_of_a_filter_that_holds_a_body_for_its_end() {
    let upstream = Upstream::echo();
    let proxy = start(with(vec![rewriter("replaced")], &upstream));
    let answer = raw(address(&proxy), WITH_TRAILERS, "replaced");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(&*upstream.next().body, b"secret");
}

#[test]
fn a_paused_request_goes_on_when_a_timer_lets_it() {
    let upstream = Upstream::echo();
    let proxy = start(with(vec![delaying()], &upstream));
    runtime().block_on(async {
        assert_eq!(Client::http1(address(&proxy)).await.get("/").await.status, 200);
    });
}

#[test]
fn a_timer_replaces_the_bodies_that_the_filter_holds() {
    let upstream = Upstream::echo();
    let proxy = start(with(vec![replacing_in_time(), marker("one", "1")], &upstream));
    runtime().block_on(async {
        let answers: Vec<_> = (0..3)
            .map(|_| async {
                let mut client = Client::http1(address(&proxy)).await;
                client.send(request("POST", "/").body(Full::from("sent")).unwrap()).await
            })
            .collect();
        for answer in answers {
            let answer = answer.await;
            assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"by the timer"[..]));
        }
    });
}

#[test]
fn a_filter_that_an_exchange_has_not_reached_logs_it_and_does_nothing_else() {
    let upstream = Upstream::echo();
    let proxy = start(with(vec![denier(), recalling()], &upstream));
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        assert!(marks(&client.get("/").await.headers).is_empty());
        let denied =
            client.send(request("GET", "/").header("x-deny", "1").body(Full::default()).unwrap());
        let denied = denied.await;
        assert_eq!(denied.status, 403);
        assert!(marks(&denied.headers).is_empty());
        assert_eq!(marks(&client.get("/").await.headers), ["denied"]);
    });
    let status = serde_json::to_value(proxy.status()).unwrap();
    assert_eq!(
        (&status["filters"][1]["exchanges"], &status["filters"][1]["instances"]),
        (&2.into(), &1.into())
    );
}

#[test]
fn a_trap_fails_its_own_exchange_and_the_next_one_finds_a_new_instance() {
    let upstream = Upstream::echo();
    let proxy = start(with(vec![misbehaving()], &upstream));
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        for (header, reason) in [("x-trap", "trap"), ("x-loop", "cpu"), ("x-eat", "memory")] {
            let bad = request("GET", "/").header(header, "1").body(Full::default()).unwrap();
            let answer = client.send(bad).await;
            assert_eq!((answer.status.as_u16(), &answer.headers["x-portcullis-code"]), (503, &"P0707".parse().unwrap()));
            assert_eq!(client.get("/").await.status, 200);
            let line = format!("portcullis_filter_traps_total{{filter=\"default/misbehaving\",reason=\"{reason}\"}} 1");
            assert!(proxy.metrics().contains(&line), "{line} is not in\n{}", proxy.metrics());
        }
    });
    let status = serde_json::to_value(proxy.status()).unwrap();
    assert_eq!(status["filters"][0]["instances"], 1);
}

#[test]
fn a_filter_that_traps_too_often_is_suspended_and_its_fail_strategy_answers() {
    for (fail, expected) in [(FailStrategy::Close, 503), (FailStrategy::Open, 200)] {
        let upstream = Upstream::echo();
        let proxy = start(with(vec![Filter { fail, ..misbehaving() }], &upstream));
        runtime().block_on(async {
            let mut client = Client::http1(address(&proxy)).await;
            for _ in 0..5 {
                let bad = request("GET", "/").header("x-trap", "1").body(Full::default()).unwrap();
                assert_eq!(client.send(bad).await.status, expected);
            }
            assert_eq!(client.get("/").await.status, expected);
        });
        let status = serde_json::to_value(proxy.status()).unwrap();
        assert_eq!(status["filters"][0]["state"], "suspended");
        assert_eq!(status["filters"][0]["traps"]["trap"], 5);
    }
}

#[test]
fn an_exchange_waits_for_an_instance_no_longer_than_one_start() {
    for (fail, expected) in [(FailStrategy::Close, 503), (FailStrategy::Open, 200)] {
        let upstream = Upstream::echo();
        let proxy = start(with(vec![Filter { fail, ..starting_once() }], &upstream));
        runtime().block_on(async {
            let mut client = Client::http1(address(&proxy)).await;
            let bad = request("GET", "/").header("x-trap", "1").body(Full::default()).unwrap();
            assert_eq!(client.send(bad).await.status, expected);
            let body = Full::from("held meanwhile");
            let answer = client.send(request("POST", "/").body(body).unwrap()).await;
            assert_eq!(answer.status, expected);
            assert!(expected != 200 || &*answer.body == b"held meanwhile");
        });
    }
}

#[test]
fn a_filter_on_a_route_runs_only_where_the_route_names_it() {
    let upstream = Upstream::echo();
    let mut snapshot = simple(BackendProtocol::Http, &upstream);
    snapshot.filters = vec![Arc::new(marker("routed", "r"))];
    let plain = crate::harness::rule_to(0);
    let marked = Rule {
        matches: vec![Match {
            path: Some(PathMatch::Prefix("/marked".to_owned())),
            ..Match::default()
        }],
        filters: vec![RouteFilter::Wasm(0)],
        ..plain.clone()
    };
    snapshot.routes = vec![crate::harness::route(RouteKind::Http, vec![plain, marked])];
    let proxy = start(snapshot);
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        assert_eq!(marks(&client.get("/marked").await.headers), ["r"]);
        assert!(marks(&client.get("/other").await.headers).is_empty());
    });
}
