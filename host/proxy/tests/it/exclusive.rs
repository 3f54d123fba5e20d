//! `isolation: EXCLUSIVE`: each exchange has an instance of its own, from a pool that is bounded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use portcullis_proxy::snapshot::*;
use portcullis_proxy::{Proxy, Snapshot};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::guests::{filter, marker, starting_once};
use crate::harness::{
    Answer, Client, PATIENCE, Upstream, address, backend, eventually, listener, request, route,
    rule_to, runtime, simple, start,
};

/// No exchange of these tests waits in vain.
const PATIENT: Duration = Duration::from_secs(60);

/// A server that answers with the path of the request: `/free` at once, everything else when it is let go.
struct Gate {
    upstream: Upstream,
    permits: Arc<Semaphore>,
    arrived: mpsc::UnboundedReceiver<()>,
}

impl Gate {
    fn closed() -> Gate {
        let permits = Arc::new(Semaphore::new(0));
        let (sender, arrived) = mpsc::unbounded_channel();
        let ours = permits.clone();
        let upstream = Upstream::serving(move |request, _| {
            let (permits, sender) = (ours.clone(), sender.clone());
            async move {
                let path = request.uri().path().to_owned();
                if path != "/free" {
                    sender.send(()).unwrap();
                    permits.acquire().await.unwrap().forget();
                }
                Response::new(Full::from(Bytes::from(path)).boxed())
            }
        });
        Gate { upstream, permits, arrived }
    }

    fn open(&self, count: usize) {
        self.permits.add_permits(count);
    }

    /// Sends so many requests and waits until all are there.
    async fn fill(&mut self, proxy: &Proxy, count: usize) -> Vec<JoinHandle<Answer>> {
        let sent = (0..count).map(|number| send(proxy, &format!("/{number}"), "")).collect();
        for _ in 0..count {
            self.arrived.recv().await.unwrap();
        }
        sent
    }
}

/// Sends a request on a connection of its own.
fn send(proxy: &Proxy, path: &str, header: &str) -> JoinHandle<Answer> {
    let (address, path, header) = (address(proxy), path.to_owned(), header.to_owned());
    tokio::spawn(async move {
        let mut request = request("GET", &path);
        if !header.is_empty() {
            request = request.header(header, "1");
        }
        Client::http1(address).await.send(request.body(Full::default()).unwrap()).await
    })
}

fn exclusive(filter: Filter, instances: usize, wait: Duration) -> Filter {
    Filter { isolation: Isolation::Exclusive(InstanceLimits { instances, wait }), ..filter }
}

fn with(filter: Filter, upstream: &Upstream) -> Snapshot {
    let mut web = listener("web");
    web.filters = vec![0];
    Snapshot {
        listeners: vec![Arc::new(web)],
        filters: vec![Arc::new(filter)],
        ..simple(BackendProtocol::Http, upstream)
    }
}

/// As [`eventually`], while other tasks of this runtime go on.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let asking = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect(what);
}

fn status(proxy: &Proxy) -> Value {
    serde_json::to_value(proxy.status()).unwrap()["filters"][0].take()
}

/// Marks an exchange `x-mark: alone`, or `crowd` when its instance has another one; traps where the header `x-request`,
/// `x-response` or `x-log` of the request says so.
fn counting() -> Filter {
    filter(
        "counting",
        &[
            ("k", "x-mark"),
            ("alone", "alone"),
            ("crowd", "crowd"),
            ("request", "x-request"),
            ("response", "x-response"),
            ("log", "x-log"),
        ],
        r#"(func $trap (param i32 i32) (if (call $has (local.get 0) (local.get 1)) (then (unreachable))))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $trap $request$)
             (global.set $waiting (i32.add (global.get $waiting) (i32.const 1))) (i32.const 0))
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (call $trap $response$)
             (if (i32.eq (global.get $waiting) (i32.const 1))
               (then (drop (call $add (i32.const 2) $k$ $alone$)))
               (else (drop (call $add (i32.const 2) $k$ $crowd$))))
             (i32.const 0))
           (func (export "proxy_on_log") (param i32)
             (call $trap $log$)
             (global.set $waiting (i32.sub (global.get $waiting) (i32.const 1))))"#,
    )
}

async fn assert_untouched(sent: Vec<JoinHandle<Answer>>) {
    for (number, answer) in sent.into_iter().enumerate() {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, format!("/{number}").as_bytes()));
        assert_eq!(answer.headers["x-mark"], "alone");
    }
}

#[test]
fn a_trap_in_any_phase_is_noticed_by_its_own_exchange_alone() {
    let mut gate = Gate::closed();
    let proxy = start(with(exclusive(counting(), 30, PATIENT), &gate.upstream));
    runtime().block_on(async {
        let innocent = gate.fill(&proxy, 10).await;
        for (header, expected) in [("x-request", 503), ("x-response", 503), ("x-log", 200)] {
            for _ in 0..4 {
                assert_eq!(
                    send(&proxy, "/free", header).await.unwrap().status,
                    expected,
                    "{header}"
                );
            }
        }
        until("all traps are counted", || status(&proxy)["traps"]["trap"] == 12).await;
        assert_eq!(status(&proxy)["state"], "live");
        gate.open(10);
        assert_untouched(innocent).await;
        assert_eq!(send(&proxy, "/free", "").await.unwrap().headers["x-mark"], "alone");
    });
}

#[test]
fn past_the_bound_the_fail_strategy_answers_when_the_wait_is_over() {
    for (fail, expected) in [(FailStrategy::Close, 503), (FailStrategy::Open, 200)] {
        let mut gate = Gate::closed();
        let filter = exclusive(Filter { fail, ..counting() }, 2, Duration::from_millis(300));
        let proxy = start(with(filter, &gate.upstream));
        runtime().block_on(async {
            until("warm", || status(&proxy)["pool"]["idle"] == 2).await;
            let innocent = gate.fill(&proxy, 2).await;
            let late = send(&proxy, "/free", "").await.unwrap();
            assert_eq!(late.status, expected);
            assert!(!late.headers.contains_key("x-mark"));
            assert_eq!(status(&proxy)["pool"]["expired"], 1);
            assert_eq!(status(&proxy)["pool"]["waiting"], 0);
            gate.open(2);
            assert_untouched(innocent).await;
            assert_eq!(send(&proxy, "/free", "").await.unwrap().headers["x-mark"], "alone");
        });
    }
}

#[test]
fn exchanges_past_the_bound_get_what_comes_free() {
    let mut gate = Gate::closed();
    let proxy = start(with(exclusive(counting(), 2, PATIENT), &gate.upstream));
    runtime().block_on(async {
        until("warm", || status(&proxy)["pool"]["idle"] == 2).await;
        let mut innocent = gate.fill(&proxy, 2).await;
        innocent.extend((2..20).map(|number| send(&proxy, &format!("/{number}"), "")));
        until("they wait", || status(&proxy)["pool"]["waiting"] == 18).await;
        assert_eq!(status(&proxy)["instances"], 2);
        gate.open(20);
        assert_untouched(innocent).await;
        let expected =
            "portcullis_filter_waits_total{filter=\"default/counting\",outcome=\"served\"} 18";
        assert!(proxy.metrics().contains(expected), "{}", proxy.metrics());
        assert_eq!(status(&proxy)["pool"]["waiting"], 0);
    });
}

#[test]
fn clients_that_leave_while_they_wait_take_nothing_with_them() {
    let mut gate = Gate::closed();
    let proxy = start(with(exclusive(counting(), 1, PATIENT), &gate.upstream));
    runtime().block_on(async {
        let innocent = gate.fill(&proxy, 1).await;
        let waiting: Vec<_> = (0..5).map(|_| send(&proxy, "/free", "")).collect();
        until("they wait", || status(&proxy)["pool"]["waiting"] == 5).await;
        waiting.iter().for_each(JoinHandle::abort);
        until("they have left", || status(&proxy)["pool"]["waiting"] == 0).await;
        gate.open(1);
        assert_untouched(innocent).await;
        assert_eq!(send(&proxy, "/free", "").await.unwrap().headers["x-mark"], "alone");
    });
}

#[test]
fn a_pool_is_warm_before_the_first_exchange() {
    let gate = Gate::closed();
    for (bound, warm) in [(1, 1), (64, 4)] {
        let proxy = start(with(exclusive(counting(), bound, PATIENT), &gate.upstream));
        eventually("warm", || status(&proxy)["pool"]["idle"] == warm);
        assert_eq!(status(&proxy)["instances"], warm);
        assert_eq!(status(&proxy)["isolation"], "EXCLUSIVE");
        assert_eq!(status(&proxy)["pool"]["boundPerWorker"], bound);
        assert_eq!(status(&proxy)["sharedInstance"], Value::Null);
    }
}

#[test]
fn starts_that_fail_suspend_the_filter_only_where_no_instance_is_left() {
    let gate = Gate::closed();
    let proxy = start(with(exclusive(starting_once(), 4, PATIENT), &gate.upstream));
    runtime().block_on(async {
        until("suspended", || status(&proxy)["state"] == "suspended").await;
        assert_eq!(send(&proxy, "/free", "").await.unwrap().status, 200);
        assert_eq!(send(&proxy, "/free", "x-trap").await.unwrap().status, 503);
        until("suspended", || status(&proxy)["state"] == "suspended").await;
        assert_eq!(send(&proxy, "/free", "").await.unwrap().status, 503);
    });
}

/// Calls the upstream `auth` when an exchange is over, and waits for no answer.
fn reporting() -> Filter {
    crate::guests::calling_from(r#"(func (export "proxy_on_log") (param i32) (drop (call $ask)))"#)
}

#[test]
fn an_instance_serves_the_next_exchange_when_its_callouts_are_answered() {
    let (upstream, mut auth) = (Upstream::echo(), Gate::closed());
    let mut snapshot = with(exclusive(reporting(), 1, PATIENT), &upstream);
    snapshot.backends.push(backend("default/auth", BackendProtocol::Http, auth.upstream.address));
    let proxy = start(snapshot);
    runtime().block_on(async {
        assert_eq!(send(&proxy, "/", "").await.unwrap().status, 200);
        auth.arrived.recv().await.unwrap();
        let next = send(&proxy, "/", "");
        until("it waits", || status(&proxy)["pool"]["waiting"] == 1).await;
        auth.open(2);
        assert_eq!(next.await.unwrap().status, 200);
        until("it is free again", || status(&proxy)["pool"]["idle"] == 1).await;
    });
}

/// Holds the response to a request with `x-hold` until the upstream `auth` has answered.
fn holding_back() -> Filter {
    crate::guests::calling_from(
        r#"(func (export "proxy_on_response_headers") (param $id i32) (param i32 i32) (result i32)
             (if (i32.eqz (call $has $h$)) (then (return (i32.const 0))))
             (global.set $waiting (local.get $id))
             (drop (call $ask)) (i32.const 1))
           (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
             (drop (call $effective (global.get $waiting)))
             (drop (call $continue (i32.const 1))))"#,
    )
}

#[test]
fn an_exchange_that_gets_its_instance_after_it_was_answered_gives_it_back() {
    let (mut gate, mut auth) = (Gate::closed(), Gate::closed());
    let mut snapshot = with(holding_back(), &gate.upstream);
    // Without a log phase, which would use what the exchange was given.
    snapshot.filters.push(Arc::new(exclusive(marker("marking", "alone"), 1, PATIENT)));
    Arc::get_mut(&mut snapshot.listeners[0]).unwrap().filters.push(1);
    snapshot.backends.push(backend("default/auth", BackendProtocol::Http, auth.upstream.address));
    let late = Match { path: Some(PathMatch::Exact("/late".to_owned())), ..Match::default() };
    let timeouts = Timeouts { request: Some(Duration::from_millis(20)), ..Timeouts::default() };
    let hurried = Rule { matches: vec![late], timeouts, ..rule_to(0) };
    snapshot.routes = vec![route(RouteKind::Http, vec![rule_to(0), hurried])];
    let proxy = start(snapshot);
    let waiting =
        || serde_json::to_value(proxy.status()).unwrap()["filters"][1]["pool"]["waiting"].take();
    runtime().block_on(async {
        let innocent = gate.fill(&proxy, 1).await;
        let answered = send(&proxy, "/late", "x-hold");
        auth.arrived.recv().await.unwrap();
        assert_eq!(waiting(), 1);
        gate.open(1);
        assert_untouched(innocent).await;
        until("it has an instance", || waiting() == 0).await;
        auth.open(1);
        assert_eq!(answered.await.unwrap().status, 504);
        assert_eq!(send(&proxy, "/free", "").await.unwrap().headers["x-mark"], "alone");
    });
}

/// Sets a timer while it starts, and stores what it has seen of it under `ticked`. Marks requests by whose timer it was:
/// `mine`, `shared`, or `none` so far.
fn ticking() -> Filter {
    filter(
        "ticking",
        &[
            ("k", "x-mark"),
            ("t", "ticked"),
            ("mine", "mine"),
            ("shared", "shared"),
            ("none", "none"),
        ],
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $tick_period (i32.const 10))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32)
             (global.set $waiting (i32.const 1))
             (drop (call $set_data $t$ $t$ (i32.const 0))))
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (if (global.get $waiting) (then (drop (call $add (i32.const 2) $k$ $mine$)))
               (else (if (call $get_data $t$ (i32.const 0) (i32.const 4) (i32.const 8))
                 (then (drop (call $add (i32.const 2) $k$ $none$)))
                 (else (drop (call $add (i32.const 2) $k$ $shared$))))))
             (i32.const 0))"#,
    )
}

#[test]
fn a_timer_that_is_set_at_the_start_runs_in_one_instance_that_no_exchange_has() {
    let upstream = Upstream::echo();
    let proxy = start(with(exclusive(ticking(), 2, PATIENT), &upstream));
    runtime().block_on(async {
        let mut client = Client::http1(address(&proxy)).await;
        loop {
            let answer = client.get("/").await;
            match answer.headers["x-mark"].as_bytes() {
                b"none" => {}
                mark => break assert_eq!(mark, b"shared"),
            }
        }
    });
    eventually("warm", || status(&proxy)["instances"] == 3);
    assert_eq!(status(&proxy)["sharedInstance"], serde_json::json!(["ticks"]));
}

/// Pauses each request until a timer lets it go that it sets for the purpose.
fn sleeping() -> Filter {
    filter(
        "sleeping",
        &[],
        r#"(func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
             (global.set $waiting (local.get $id))
             (drop (call $tick_period (i32.const 10))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32)
             (drop (call $tick_period (i32.const 0)))
             (drop (call $effective (global.get $waiting)))
             (drop (call $continue (i32.const 0))))"#,
    )
}

#[test]
fn a_timer_that_is_set_for_an_exchange_runs_where_the_exchange_is() {
    let upstream = Upstream::echo();
    let proxy = start(with(exclusive(sleeping(), 3, PATIENT), &upstream));
    runtime().block_on(async {
        let sent: Vec<_> = (0..9).map(|_| send(&proxy, "/", "")).collect();
        for answer in sent {
            assert_eq!(answer.await.unwrap().status, 200);
        }
    });
    assert_eq!(status(&proxy)["sharedInstance"], Value::Null);
}

/// Puts an element into a queue for each request, and stores that it was told of it under `told`, which is what requests
/// are marked with. Registers the queue when it starts, or first in an exchange.
fn queueing(at_start: bool) -> Filter {
    let register = "(drop (call $register $q$ (i32.const 12)))";
    let (early, late) = if at_start { (register, "") } else { ("", register) };
    filter(
        "queueing",
        &[("q", "queue"), ("k", "x-mark"), ("t", "told")],
        &format!(
            r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
                 {early} (i32.const 1))
               (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                 {late} (drop (call $enqueue (i32.load (i32.const 12)) $q$)) (i32.const 0))
               (func (export "proxy_on_queue_ready") (param i32 i32)
                 (drop (call $set_data $t$ $t$ (i32.const 0))))
               (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
                 (if (i32.eqz (call $get_data $t$ (i32.const 0) (i32.const 4) (i32.const 8)))
                   (then (drop (call $add (i32.const 2) $k$ $t$))))
                 (i32.const 0))"#
        ),
    )
}

#[test]
fn queues_are_told_to_one_instance_that_no_exchange_has() {
    for at_start in [true, false] {
        let upstream = Upstream::echo();
        let proxy = start(with(exclusive(queueing(at_start), 1, PATIENT), &upstream));
        runtime().block_on(async {
            let mut client = Client::http1(address(&proxy)).await;
            while !client.get("/").await.headers.contains_key("x-mark") {}
        });
        assert_eq!(status(&proxy)["sharedInstance"], serde_json::json!(["queues"]));
        assert_eq!(status(&proxy)["instances"], 2);
    }
}

#[test]
fn a_generation_takes_all_its_instances_with_it() {
    let mut gate = Gate::closed();
    let snapshot = |generation, wait| Snapshot {
        generation,
        ..with(exclusive(counting(), 40, wait), &gate.upstream)
    };
    let (first, second) = (snapshot(1, PATIENT), snapshot(2, PATIENT * 2));
    let proxy = start(first);
    runtime().block_on(async {
        let innocent = gate.fill(&proxy, 40).await;
        proxy.publish(second).unwrap();
        assert_eq!(send(&proxy, "/free", "").await.unwrap().headers["x-mark"], "alone");
        let generations = serde_json::to_value(proxy.status()).unwrap()["generations"].take();
        assert_eq!(generations[0]["instances"], 40);
        gate.open(40);
        assert_untouched(innocent).await;
        until("only the second generation is left", || {
            !proxy.metrics().contains("generation=\"1\"")
        })
        .await;
        until("warm", || status(&proxy)["instances"] == 4).await;
    });
}
