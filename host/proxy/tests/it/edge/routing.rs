//! What routes do to requests, end to end, and how filters steer them.

use std::io::Write;
use std::sync::Arc;

use http::StatusCode;
use http_body_util::Full;
use portcullis_proxy::snapshot::*;

use super::{connect, filtered, read_rest, snapshot};
use crate::guests::filter;
use crate::harness::{Client, Upstream, address, backend, request, route, rule_to, runtime, start};

fn prefixed(prefix: &str, rule: Rule) -> Rule {
    let path = Some(PathMatch::Prefix(prefix.to_owned()));
    Rule { matches: vec![Match { path, ..Match::default() }], ..rule }
}

#[test]
fn a_filter_steers_by_a_header_and_by_the_path() {
    let (first, second) = (Upstream::echo(), Upstream::echo());
    let by_header = Match {
        headers: vec![HeaderMatch {
            name: "x-steer".parse().unwrap(),
            value: ValueMatch::Exact("second".to_owned()),
        }],
        ..Match::default()
    };
    let steering = filter(
        "steering",
        &[
            ("u", "x-user"),
            ("k", "x-steer"),
            ("v", "second"),
            ("m", "x-move"),
            ("p", ":path"),
            ("q", "/second"),
        ],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (if (call $has $u$) (then (drop (call $replace (i32.const 0) $k$ $v$))))
             (if (call $has $m$) (then (drop (call $replace (i32.const 0) $p$ $q$))))
             (i32.const 0))"#,
    );
    let mut snapshot = snapshot(BackendProtocol::Http, first.address, |_| {});
    snapshot.backends.push(backend("default/second", BackendProtocol::Http, second.address));
    snapshot.routes = vec![route(
        RouteKind::Http,
        vec![
            rule_to(0),
            Rule { matches: vec![by_header], ..rule_to(1) },
            prefixed("/second", rule_to(1)),
        ],
    )];
    let proxy = start(filtered(snapshot, vec![steering]));
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        for (header, served_by) in [("x-none", &first), ("x-user", &second), ("x-move", &second)] {
            let get = request("GET", "/").header(header, "1").body(Full::default()).unwrap();
            assert_eq!(client.send(get).await.status, 200);
            served_by.next();
        }
    });
    assert_eq!((first.pending(), second.pending()), (0, 0));
}

#[test]
fn a_rewrite_and_modifiers_reach_the_upstream_and_the_client() {
    let upstream = Upstream::echo();
    let modifier = |name: &'static str| HeaderModifier {
        set: vec![(name.parse().unwrap(), "set".parse().unwrap())],
        add: vec![(name.parse().unwrap(), "added".parse().unwrap())],
        remove: vec!["x-gone".parse().unwrap()],
    };
    let rule = prefixed(
        "/old",
        Rule {
            filters: vec![
                RouteFilter::RequestHeaders(modifier("x-request")),
                RouteFilter::ResponseHeaders(modifier("x-response")),
                RouteFilter::Rewrite(Rewrite {
                    hostname: Some("inner.test".to_owned()),
                    path: Some(PathModifier::Prefix("/new".to_owned())),
                }),
            ],
            ..rule_to(0)
        },
    );
    for protocol in [BackendProtocol::Http, BackendProtocol::H2c] {
        let proxy = start(snapshot(protocol, upstream.address, |only| *only = rule.clone()));
        runtime().block_on(async {
            for mut client in
                [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
            {
                let get = request("GET", "/old/a?b=c").header("x-gone", "1");
                let answer = client.send(get.body(Full::default()).unwrap()).await;
                assert_eq!(answer.body, "GET /new/a?b=c");
                let values: Vec<_> = answer.headers.get_all("x-response").iter().collect();
                assert_eq!(values, ["set", "added"]);
                let seen = upstream.next().head;
                assert!(!seen.headers.contains_key("x-gone"));
                assert_eq!(seen.headers.get_all("x-request").iter().count(), 2);
                let host = seen.headers.get("host").map(|host| host.to_str().unwrap());
                assert_eq!(host.or(seen.uri.host()), Some("inner.test"));
            }
        });
    }
}

#[test]
fn a_redirect_is_answered_without_the_upstream() {
    let upstream = Upstream::echo();
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |rule| {
        rule.filters = vec![RouteFilter::Redirect(Redirect {
            scheme: Some("https".to_owned()),
            hostname: None,
            path: Some(PathModifier::Full("/there".to_owned())),
            port: None,
            status: StatusCode::MOVED_PERMANENTLY,
        })];
    }));
    runtime().block_on(async {
        for mut client in
            [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
        {
            let answer = client.get("/here?a=b").await;
            assert_eq!(answer.status, 301);
            assert_eq!(answer.headers["location"], "https://app.test/there?a=b");
        }
    });
    assert_eq!(upstream.pending(), 0);
}

#[test]
fn each_backend_gets_about_its_weight_and_an_invalid_one_is_a_500() {
    const REQUESTS: usize = 400;
    let (heavy, light) = (Upstream::echo(), Upstream::echo());
    let mut snapshot = snapshot(BackendProtocol::Http, heavy.address, |rule| {
        let share = |backend, weight| WeightedBackend {
            backend,
            reference: "some".to_owned(),
            weight,
            filters: Vec::new(),
        };
        rule.backends = vec![share(Some(0), 2), share(Some(1), 1), share(None, 1)];
    });
    snapshot.backends.push(backend("default/light", BackendProtocol::Http, light.address));
    let proxy = start(snapshot);
    let mut failed = 0;
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        for _ in 0..REQUESTS {
            match client.get("/").await.status.as_u16() {
                200 => {}
                status => {
                    assert_eq!(status, 500);
                    failed += 1;
                }
            }
        }
    });
    let (heavy, light) = (heavy.pending(), light.pending());
    assert_eq!(heavy + light + failed, REQUESTS);
    // Each is at least six standard deviations away from these bounds.
    assert!(heavy > 140 && light > 45 && failed > 45, "{heavy} {light} {failed}");
    assert!(heavy < 260 && light < 155 && failed < 155, "{heavy} {light} {failed}");
}

#[test]
fn a_trusted_hop_names_the_client_and_its_request_id_stays() {
    let upstream = Upstream::echo();
    let seen_by_filter = filter(
        "address",
        &[],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))"#,
    );
    let mut snapshot =
        filtered(snapshot(BackendProtocol::Http, upstream.address, |_| {}), vec![seen_by_filter]);
    let mut web = (*snapshot.listeners[0]).clone();
    web.trusted_hops = 1;
    snapshot.listeners[0] = Arc::new(web);
    let log = tempfile::NamedTempFile::new().unwrap();
    snapshot.access_log = Some(AccessLog {
        format: AccessLogFormat::Json,
        path: log.path().to_str().unwrap().to_owned(),
        filter: None,
        ..AccessLog::default()
    });
    let proxy = start(snapshot);
    let mut client = connect(address(&proxy));
    client
        .write_all(
            b"GET / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\nx-request-id: kept\r\n\
              x-forwarded-for: 6.6.6.6, 203.0.113.9\r\nx-forwarded-proto: https\r\n\r\n",
        )
        .unwrap();
    assert!(read_rest(&mut client).starts_with("HTTP/1.1 200 "));
    let headers = upstream.next().head.headers;
    assert_eq!(headers["x-forwarded-for"], "6.6.6.6, 203.0.113.9, 127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert_eq!(headers["x-request-id"], "kept");
    crate::harness::eventually("the line is written", || {
        std::fs::read_to_string(log.path()).unwrap().contains("203.0.113.9:0")
    });
}

#[test]
fn a_body_that_passes_before_the_route_is_known_passes_the_filters_of_the_route() {
    let upstream = Upstream::echo();
    // Holds the head until the body has ended.
    let mut listening = filter(
        "listening",
        &[],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (i32.eqz (local.get 2)))
           (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             (i32.eqz (local.get 2)))"#,
    );
    let mut plugin = (*listening.plugin).clone();
    plugin.allow_on_headers_stop_iteration = true;
    listening.plugin = Arc::new(plugin);
    let appending = filter(
        "appending",
        &[("a", "!")],
        r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             (if (local.get 2) (then
               (drop (call $set_body (i32.const 0) (i32.const 0x7fffffff) (i32.const 0) $a$))))
             (i32.const 0))"#,
    );
    let routed = snapshot(BackendProtocol::Http, upstream.address, |rule| {
        rule.filters = vec![RouteFilter::Wasm(1)];
    });
    let mut snapshot = filtered(routed, vec![listening]);
    snapshot.filters.push(Arc::new(appending));
    let proxy = start(snapshot);
    runtime().block_on(async {
        for mut client in
            [Client::http1(address(&proxy)).await, Client::http2(address(&proxy)).await]
        {
            let post = request("POST", "/").body(Full::from("body")).unwrap();
            assert_eq!(client.send(post).await.body, "body!");
            assert_eq!(upstream.next().head.headers["content-length"], "5");
        }
    });
}

#[test]
fn a_filter_steers_by_a_property_that_no_client_can_forge() {
    let (plain, gold) = (Upstream::echo(), Upstream::echo());
    let tier = HeaderMatch {
        name: "wasm.tier".parse().unwrap(),
        value: ValueMatch::Exact("gold".to_owned()),
    };
    let of_tier = Match { headers: vec![tier], ..Match::default() };
    let judging = filter(
        "judging",
        &[("h", "x-member"), ("k", "tier"), ("v", "gold")],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (if (call $has $h$) (then (drop (call $set_property $k$ $v$))))
             (i32.const 0))"#,
    );
    let mut snapshot = snapshot(BackendProtocol::Http, plain.address, |_| {});
    snapshot.backends.push(backend("default/gold", BackendProtocol::Http, gold.address));
    let rules = vec![rule_to(0), Rule { matches: vec![of_tier], ..rule_to(1) }];
    snapshot.routes = vec![route(RouteKind::Http, rules)];
    let proxy = start(filtered(snapshot, vec![judging]));
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        for (header, served_by) in
            [("x-none", &plain), ("x-member", &gold), ("wasm.tier", &plain), ("x-member", &gold)]
        {
            let get = request("GET", "/").header(header, "gold").body(Full::default()).unwrap();
            assert_eq!(client.send(get).await.status, 200);
            let seen = served_by.next();
            assert_eq!(seen.head.headers.contains_key("wasm.tier"), header == "wasm.tier");
        }
        assert_eq!((plain.pending(), gold.pending()), (0, 0));
    });
}
