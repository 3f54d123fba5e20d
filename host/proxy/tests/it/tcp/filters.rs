//! What network filters can do to a connection.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;

use portcullis_proxy::snapshot::*;

use super::{Log, ask, connect, echo, named, rest, server, snapshot, take, until_metric};
use crate::guests::{filter, pairs};
use crate::harness::{Upstream, backend, start};

/// Puts its name before each piece, in both directions.
pub fn tagging(name: &str) -> Filter {
    filter(
        name,
        &[("n", name)],
        r#"(func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
             (if (local.get 1) (then
               (drop (call $set_body (i32.const 2) (i32.const 0) (i32.const 0) $n$)))) (i32.const 0))
           (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
             (if (local.get 1) (then
               (drop (call $set_body (i32.const 3) (i32.const 0) (i32.const 0) $n$)))) (i32.const 0))"#,
    )
}

/// Holds what the client sends until it has ended, and marks it once.
fn collecting() -> Filter {
    filter(
        "collecting",
        &[("n", "whole:")],
        r#"(func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
             (if (i32.eqz (local.get 2)) (then (return (i32.const 1))))
             (drop (call $set_body (i32.const 2) (i32.const 0) (i32.const 0) $n$)) (i32.const 0))"#,
    )
}

/// Closes the connection when the client has sent something.
fn closing() -> Filter {
    filter(
        "closing",
        &[],
        r#"(func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
             (drop (call $close (i32.const 2))) (i32.const 1))"#,
    )
}

/// Holds what the client sends, and lets it go whenever a timer says so. The gauge `most` is what it held at most.
fn metering(limit: usize) -> Filter {
    let mut filter = filter(
        "metering",
        &[("m", "most")],
        r#"(global $most (mut i32) (i32.const 0))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $define (i32.const 1) $m$ (i32.const 12)))
             (drop (call $tick_period (i32.const 10))) (i32.const 1))
           (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
             (if (i32.gt_u (local.get 1) (global.get $most)) (then
               (global.set $most (local.get 1))
               (drop (call $record (i32.load (i32.const 12)) (i64.extend_i32_u (local.get 1))))))
             (global.set $waiting (local.get 0)) (i32.const 1))
           (func (export "proxy_on_tick") (param i32)
             (if (global.get $waiting) (then
               (drop (call $effective (global.get $waiting)))
               (drop (call $continue (i32.const 2)))
               (global.set $waiting (i32.const 0)))))"#,
    );
    let mut plugin = (*filter.plugin).clone();
    plugin.limits.body = limit;
    filter.plugin = Arc::new(plugin);
    filter
}

/// Asks the upstream `auth` about each new connection, and does `then` when it has answered. Knows no data callback.
fn asking(then: &str) -> Filter {
    let pairs = pairs(&[(":method", "GET"), (":path", "/check"), (":authority", "auth")]);
    filter(
        "asking",
        &[("u", "auth"), ("p", &pairs)],
        &r#"(func (export "proxy_on_new_connection") (param i32) (result i32)
             (global.set $waiting (local.get 0))
             (drop (call $call $u$ $p$ (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
               (i32.const 5000) (i32.const 8)))
             (i32.const 1))
           (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
             (drop (call $effective (global.get $waiting)))
             (global.set $waiting (i32.const 0))
             THEN)"#
            .replace("THEN", then),
    )
}

/// Counts how its connections end.
fn counting() -> Filter {
    filter(
        "counting",
        &[
            ("cl", "client_local"),
            ("cr", "client_remote"),
            ("ul", "upstream_local"),
            ("ur", "upstream_remote"),
        ],
        r#"(func $count (param i32 i32)
             (drop (call $define (i32.const 0) (local.get 0) (local.get 1) (i32.const 12)))
             (drop (call $increment (i32.load (i32.const 12)) (i64.const 1))))
           (func (export "proxy_on_downstream_connection_close") (param i32 i32)
             (if (i32.eq (local.get 1) (i32.const 1)) (then (call $count $cl$)))
             (if (i32.eq (local.get 1) (i32.const 2)) (then (call $count $cr$))))
           (func (export "proxy_on_upstream_connection_close") (param i32 i32)
             (if (i32.eq (local.get 1) (i32.const 1)) (then (call $count $ul$)))
             (if (i32.eq (local.get 1) (i32.const 2)) (then (call $count $ur$))))"#,
    )
}

#[test]
fn bytes_pass_filters_in_order_and_come_back_in_reverse() {
    let proxy = start(snapshot(echo(), vec![tagging("1"), tagging("2")]));
    assert_eq!(ask(&proxy, "x"), "1221x");
}

#[test]
fn a_filter_holds_bytes_until_it_has_seen_all_of_them() {
    let proxy = start(snapshot(echo(), vec![collecting(), tagging("t")]));
    let mut client = connect(&proxy);
    for piece in ["one ", "two ", "three"] {
        client.write_all(piece.as_bytes()).unwrap();
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut client), "ttwhole:one two three");
}

#[test]
fn a_filter_closes_a_connection_after_what_the_client_is_still_to_get() {
    let proxy = start(snapshot(named("hello"), vec![closing(), counting()]));
    let mut client = connect(&proxy);
    assert_eq!(take(&mut client, 5), "hello");
    client.write_all(b"anything").unwrap();
    assert_eq!(rest(&mut client), "");
    until_metric(&proxy, r#"wasmcustom_client_local{filter="default/counting"} 1"#);
    until_metric(&proxy, r#"wasmcustom_upstream_local{filter="default/counting"} 1"#);
}

#[test]
fn what_a_filter_closes_a_connection_about_does_not_pass_whatever_it_answers() {
    let secret = filter(
        "secret",
        &[],
        r#"(func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
             (drop (call $close (i32.const 2))) (i32.const 0))"#,
    );
    let proxy = start(snapshot(named("secret"), vec![secret, counting()]));
    assert_eq!(rest(&mut connect(&proxy)), "");
    until_metric(&proxy, r#"wasmcustom_client_local{filter="default/counting"} 1"#);
}

#[test]
fn a_filter_hears_who_has_closed() {
    let proxy = start(snapshot(echo(), vec![counting()]));
    // The client has ended, the server ends, and so we close.
    assert_eq!(ask(&proxy, "x"), "x");
    until_metric(&proxy, r#"wasmcustom_client_local{filter="default/counting"} 1"#);
    until_metric(&proxy, r#"wasmcustom_upstream_remote{filter="default/counting"} 1"#);
    // The server has ended, and the client closes.
    let proxy = start(snapshot(server(drop), vec![counting()]));
    let mut client = connect(&proxy);
    assert_eq!(rest(&mut client), "");
    drop(client);
    until_metric(&proxy, r#"wasmcustom_client_remote{filter="default/counting"} 1"#);
    until_metric(&proxy, r#"wasmcustom_upstream_remote{filter="default/counting"} 1"#);
}

#[test]
fn a_filter_that_lets_go_now_and_then_holds_no_more_than_its_limit_and_loses_nothing() {
    const SIZE: usize = 1 << 20;
    let proxy = start(snapshot(echo(), vec![metering(64 << 10)]));
    let client = connect(&proxy);
    let mut writer = client.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(&vec![b'x'; SIZE]).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(rest(&mut &client).len(), SIZE);
    writing.join().unwrap();
    let metrics = proxy.metrics();
    let most = metrics.lines().find_map(|line| line.strip_prefix("wasmcustom_most{"));
    let most: usize = most.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
    // What is read at a time comes on top.
    assert!(most > 0 && most < (64 + 16) << 10, "{most}");
}

/// Holds everything, and adds to it.
fn growing() -> Filter {
    let text = "x".repeat(40_000);
    let mut filter = filter(
        "growing",
        &[("t", &text)],
        r#"(func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
             (drop (call $set_body (i32.const 2) (i32.const 0) (i32.const 0) $t$)) (i32.const 1))"#,
    );
    let mut plugin = (*filter.plugin).clone();
    plugin.limits.body = 32 << 10;
    filter.plugin = Arc::new(plugin);
    filter
}

#[test]
fn a_filter_that_adds_to_what_it_holds_cannot_hold_more_than_its_limit() {
    let mut snapshot = snapshot(named("hi"), vec![growing()]);
    let log = Log::new(&mut snapshot);
    let proxy = start(snapshot);
    let mut client = connect(&proxy);
    assert_eq!(take(&mut client, 2), "hi");
    client.write_all(b"a").unwrap();
    assert_eq!(rest(&mut client), "");
    assert_eq!(log.lines(&proxy)[0]["response_code_details"], "filter_failed");
}

#[test]
fn no_data_gets_past_a_new_connection_that_waits_for_a_verdict() {
    let auth = Upstream::echo();
    for (then, expected) in
        [("(drop (call $continue (i32.const 2)))", "x"), ("(drop (call $close (i32.const 2)))", "")]
    {
        let mut snapshot = snapshot(echo(), vec![asking(then)]);
        snapshot.backends.push(backend("default/auth", BackendProtocol::Http, auth.address));
        let proxy = start(snapshot);
        assert_eq!(ask(&proxy, "x"), expected, "{then}");
        assert_eq!(auth.next().head.uri.path(), "/check");
    }
}

#[test]
fn a_guest_may_die_in_any_callback_of_a_connection() {
    let callbacks = [
        ("proxy_on_new_connection", "(param i32) (result i32)"),
        ("proxy_on_downstream_data", "(param i32 i32 i32) (result i32)"),
        ("proxy_on_upstream_data", "(param i32 i32 i32) (result i32)"),
        ("proxy_on_downstream_connection_close", "(param i32 i32)"),
        ("proxy_on_upstream_connection_close", "(param i32 i32)"),
        ("proxy_on_done", "(param i32) (result i32)"),
        ("proxy_on_log", "(param i32)"),
        ("proxy_on_delete", "(param i32)"),
    ];
    for (callback, types) in callbacks {
        for body in ["(unreachable)", "(loop $for_ever (br $for_ever))"] {
            let end = if types.ends_with("(result i32)") { "(i32.const 1)" } else { "" };
            let text = format!(r#"(func (export "{callback}") {types} {body} {end})"#);
            let mut dying = filter("dying", &[], &text);
            dying.fail = FailStrategy::Open;
            let proxy = start(snapshot(echo(), vec![tagging("t"), dying]));
            // The instance dies with the first connection, and no other notices.
            for _ in 0..2 {
                assert_eq!(ask(&proxy, "x"), "ttx", "{callback} {body}");
            }
            drop(proxy);
        }
    }
}

/// Has connections go to the backend `second`.
fn choosing() -> Filter {
    let (name, backend) = ("envoy.tcp_proxy.cluster", "second");
    let state = format!("\n{}{name}\u{12}{}{backend}", '\u{17}', '\u{6}');
    filter(
        "choosing",
        &[("f", "set_envoy_filter_state"), ("s", &state)],
        r#"(func (export "proxy_on_new_connection") (param i32) (result i32)
             (drop (call $foreign $f$ $s$ (i32.const 0) (i32.const 4))) (i32.const 0))"#,
    )
}

#[test]
fn a_filter_chooses_the_backend_by_filter_state_as_for_envoy() {
    for (filters, expected) in [(vec![choosing()], "second"), (Vec::new(), "first!")] {
        let mut snapshot = snapshot(named("first!"), filters);
        snapshot.backends.push(backend("default/second", BackendProtocol::Tcp, named("second")));
        let log = Log::new(&mut snapshot);
        let proxy = start(snapshot);
        assert_eq!(take(&mut connect(&proxy), 6), expected);
        let backend = if expected == "second" { "default/second" } else { "default/app" };
        assert_eq!(log.lines(&proxy)[0]["upstream_cluster"], backend);
    }
}
