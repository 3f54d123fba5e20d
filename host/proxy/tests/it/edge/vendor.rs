//! What Envoy and Higress give filters beyond the ABI: another selection of the route, the choice of an endpoint, bytes put
//! into a response.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use portcullis_proxy::Snapshot;
use portcullis_proxy::snapshot::*;

use super::{filtered, snapshot};
use crate::guests::{filter, marker, pairs};
use crate::harness::{Client, Upstream, address, backend, request, route, rule_to, runtime, start};

/// Requests with `x-steer: second` go to the second backend, by `second`, others to the first.
fn forked(backends: [&Upstream; 2], second: Rule) -> Snapshot {
    let steered = Match {
        headers: vec![HeaderMatch {
            name: "x-steer".parse().unwrap(),
            value: ValueMatch::Exact("second".to_owned()),
        }],
        ..Match::default()
    };
    let mut made = snapshot(BackendProtocol::Http, backends[0].address, |_| {});
    made.backends.push(backend("default/second", BackendProtocol::Http, backends[1].address));
    let second = Rule { matches: vec![steered], ..second };
    made.routes = vec![route(RouteKind::Http, vec![rule_to(0), second])];
    made
}

const STEERING: [(&str, &str); 4] =
    [("k", "x-steer"), ("v", "second"), ("f", "clear_route_cache"), ("off", "off")];

/// Steers to the second backend when it sees the body, and then does `then`.
fn steering_late(then: &str) -> Filter {
    filter(
        "steering",
        &STEERING,
        &format!(
            r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
                 (drop (call $replace (i32.const 0) $k$ $v$)) {then} (i32.const 0))"#
        ),
    )
}

const CLEAR: &str = "(drop (call $clear_route))";

#[test]
fn a_route_that_is_cleared_while_the_body_is_seen_is_selected_again() {
    for (then, second_serves) in [("", false), (CLEAR, true)] {
        let (first, second) = (Upstream::echo(), Upstream::echo());
        let proxy =
            start(filtered(forked([&first, &second], rule_to(1)), vec![steering_late(then)]));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let post = request("POST", "/").header("content-length", "4");
                let answer = client.send(post.body(Full::from(Bytes::from("body"))).unwrap()).await;
                assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"body"[..]), "{then}");
                let served_by = if second_serves { &second } else { &first };
                assert_eq!(served_by.next().head.headers["x-steer"], "second", "{then}");
            }
        });
        assert_eq!((first.pending(), second.pending()), (0, 0));
    }
}

/// Steers to the second backend by its head, and then does `then`.
fn steering(then: &str) -> Filter {
    filter(
        "steering",
        &STEERING,
        &format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                 (drop (call $replace (i32.const 0) $k$ $v$)) {then} (i32.const 0))"#
        ),
    )
}

#[test]
fn a_filter_keeps_the_route_in_spite_of_its_edit_by_higress_property() {
    let (first, second) = (Upstream::echo(), Upstream::echo());
    let keeping = steering("(drop (call $set_property $f$ $off$))");
    let proxy = start(filtered(forked([&first, &second], rule_to(1)), vec![keeping]));
    runtime().block_on(async {
        assert_eq!(Client::http1(address(&proxy)).await.get("/").await.status, 200);
        assert_eq!(first.next().head.headers["x-steer"], "second");
    });
}

#[test]
fn a_filter_of_a_route_leads_to_another_route_whose_filters_then_run() {
    for (then, second_serves) in [("", false), (CLEAR, true)] {
        let (first, second) = (Upstream::echo(), Upstream::echo());
        let wasm = |index| vec![RouteFilter::Wasm(index)];
        let mut made = forked([&first, &second], Rule { filters: wasm(1), ..rule_to(1) });
        let from = Rule { filters: wasm(0), ..rule_to(0) };
        let to = made.routes[0].rules[1].as_ref().clone();
        made.routes = vec![route(RouteKind::Http, vec![from, to])];
        made.filters = vec![Arc::new(steering(then)), Arc::new(marker("one", "1"))];
        let proxy = start(made);
        runtime().block_on(async {
            let answer = Client::http1(address(&proxy)).await.get("/").await;
            assert_eq!(answer.headers.contains_key("x-mark"), second_serves);
            let served_by = if second_serves { &second } else { &first };
            assert_eq!(served_by.next().head.headers.contains_key("x-mark"), second_serves);
        });
        assert_eq!((first.pending(), second.pending()), (0, 0));
    }
}

/// Sends requests to this host.
fn choosing(host: &str) -> Filter {
    filter(
        "choosing",
        &[("h", host)],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (drop (call $choose $h$)) (i32.const 0))"#,
    )
}

#[test]
fn a_filter_chooses_the_endpoint_among_those_of_the_routes_backends() {
    let servers = [Upstream::echo(), Upstream::echo(), Upstream::echo()];
    for chosen in &servers {
        let mut made = snapshot(BackendProtocol::Http, servers[0].address, |_| {});
        let mut both = (*made.backends[0]).clone();
        both.endpoints
            .push(Endpoint { address: EndpointAddress::Ip(servers[1].address), weight: 9 });
        made.backends = vec![
            Arc::new(both),
            backend("default/other", BackendProtocol::Http, servers[2].address),
        ];
        let mut rule = rule_to(0);
        rule.backends.extend(rule_to(1).backends);
        made.routes = vec![route(RouteKind::Http, vec![rule])];
        let proxy = start(filtered(made, vec![choosing(&chosen.address.to_string())]));
        runtime().block_on(async {
            let mut client = Client::http1(address(&proxy)).await;
            for _ in 0..12 {
                assert_eq!(client.get("/").await.status, 200);
                chosen.next();
            }
        });
        assert!(servers.iter().all(|server| server.pending() == 0));
    }
}

#[test]
fn a_filter_of_a_route_chooses_the_endpoint_too() {
    let (first, second) = (Upstream::echo(), Upstream::echo());
    let mut made = snapshot(BackendProtocol::Http, first.address, |rule| {
        rule.filters = vec![RouteFilter::Wasm(0)];
        rule.backends.extend(rule_to(1).backends);
    });
    made.backends.push(backend("default/second", BackendProtocol::Http, second.address));
    made.filters = vec![Arc::new(choosing(&second.address.to_string()))];
    let proxy = start(made);
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        for _ in 0..12 {
            assert_eq!(client.get("/").await.status, 200);
            second.next();
        }
    });
    assert_eq!((first.pending(), second.pending()), (0, 0));
}

#[test]
fn a_host_that_is_no_endpoint_of_the_route_is_ignored_and_counted() {
    let (first, other) = (Upstream::echo(), Upstream::echo());
    let made = snapshot(BackendProtocol::Http, first.address, |_| {});
    let proxy = start(filtered(made, vec![choosing(&other.address.to_string())]));
    runtime().block_on(async {
        assert_eq!(Client::http1(address(&proxy)).await.get("/").await.status, 200);
    });
    first.next();
    assert_eq!(other.pending(), 0);
    let metrics = proxy.metrics();
    assert!(metrics.contains("call=\"proxy_set_upstream_override_host\""), "{metrics}");
}

/// Appends a mark to every piece of a response's body that it sees.
fn appending() -> Filter {
    filter(
        "appending",
        &[("m", "!")],
        r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
             (drop (call $set_body (i32.const 1) (i32.const 0x7fffffff) (i32.const 0) $m$))
             (i32.const 0))"#,
    )
}

/// Drops the response's body, asks the upstream `auth`, and does `then` when it has answered.
fn answering_later(then: &str) -> Filter {
    let pairs = pairs(&[(":method", "GET"), (":path", "/words"), (":authority", "auth")]);
    filter(
        "later",
        &[("u", "auth"), ("p", &pairs), ("a", "one"), ("b", "two")],
        &format!(
            r#"(func (export "proxy_on_response_body") (param $id i32) (param i32) (param $end i32) (result i32)
                 (if (local.get $end) (then
                   (global.set $waiting (local.get $id))
                   (drop (call $call $u$ $p$ (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                     (i32.const 5000) (i32.const 8)))))
                 (i32.const 3))
               (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
                 (drop (call $effective (global.get $waiting)))
                 {then})"#
        ),
    )
}

#[test]
fn a_filter_answers_in_pieces_from_the_completion_of_its_call() {
    let cases = [
        // Both pieces pass the filter after it, as does the end.
        (
            "(drop (call $inject $a$ (i32.const 0))) (drop (call $inject $b$ (i32.const 1)))",
            "one!two!",
        ),
        ("(drop (call $inject $a$ (i32.const 1))) (drop (call $inject $b$ (i32.const 1)))", "one!"),
        ("(drop (call $inject $a$ (i32.const 0))) (drop (call $continue (i32.const 1)))", "one!!"),
        // Nothing was done about the end, so it comes.
        ("(drop (call $inject $a$ (i32.const 0)))", "one!!"),
        ("", "!"),
    ];
    for (then, expected) in cases {
        let (upstream, auth) = (Upstream::echo(), Upstream::echo());
        let mut made = snapshot(BackendProtocol::Http, upstream.address, |_| {});
        made.backends.push(backend("default/auth", BackendProtocol::Http, auth.address));
        let proxy = start(filtered(made, vec![appending(), answering_later(then)]));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let answer = client.get("/").await;
                assert_eq!(
                    (answer.status.as_u16(), &*answer.body),
                    (200, expected.as_bytes()),
                    "{then}"
                );
            }
        });
    }
}

/// Does something in a callback of the response.
fn injecting(callback: &str, code: &str) -> Filter {
    filter(
        "injecting",
        &[("a", "before "), ("last", "all there is")],
        &format!(
            r#"(func (export "proxy_on_response_{callback}") (param i32 i32 i32) (result i32) {code} (i32.const 0))"#
        ),
    )
}

#[test]
fn what_a_callback_injects_goes_before_what_it_lets_pass() {
    let cases = [
        (
            "body",
            "(if (local.get 1) (then (drop (call $inject $a$ (i32.const 0)))))",
            "before GET /",
        ),
        ("body", "(drop (call $inject $last$ (i32.const 1)))", "all there is"),
        ("headers", "(drop (call $inject $a$ (i32.const 0)))", "before GET /"),
        ("headers", "(drop (call $inject $last$ (i32.const 1)))", "all there is"),
    ];
    for (callback, code, expected) in cases {
        let upstream = Upstream::answering(|_| {
            Response::builder().header("content-length", "5").body(Bytes::from("GET /")).unwrap()
        });
        let made = snapshot(BackendProtocol::Http, upstream.address, |_| {});
        let proxy = start(filtered(made, vec![injecting(callback, code)]));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let answer = client.get("/").await;
                assert_eq!(
                    (answer.status.as_u16(), &*answer.body),
                    (200, expected.as_bytes()),
                    "{code}"
                );
            }
        });
    }
}

#[test]
fn a_filter_that_injects_more_than_waits_anywhere_ends_only_its_own_exchange() {
    let flooding = filter(
        "flooding",
        &[("f", "x-flood")],
        r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
             (if (call $has $f$) (then
               (drop (memory.grow (i32.const 200)))
               (drop (call $inject (i32.const 0) (i32.const 6000000) (i32.const 0)))))
             (i32.const 0))"#,
    );
    let upstream = Upstream::echo();
    let made = snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(filtered(made, vec![flooding]));
    runtime().block_on(async {
        let mut client = Client::http2(address(&proxy)).await;
        let get = request("GET", "/").header("x-flood", "1").body(Full::default()).unwrap();
        let cut = match client.open(get).await {
            Ok(response) => response.into_body().collect().await.is_err(),
            Err(_) => true,
        };
        assert!(cut);
        assert_eq!(client.get("/").await.body, "GET /");
    });
}
