//! Traps, new configurations and drains while connections live.

use std::io::Write;
use std::time::Duration;

use portcullis_proxy::Snapshot;
use portcullis_proxy::snapshot::*;

use super::filters::tagging;
use super::{Log, ask, connect, echo, generations, rest, snapshot, status, take, until_metric};
use crate::guests::filter;
use crate::harness::{PATIENCE, eventually, start};

/// Traps when the client sends something that begins with `t`.
fn trapping(fail: FailStrategy) -> Filter {
    let mut filter = filter(
        "trapping",
        &[],
        r#"(func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
             (drop (call $get_body (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4)))
             (if (local.get 1) (then
               (if (i32.eq (i32.load8_u (i32.load (i32.const 0))) (i32.const 116)) (then (unreachable)))))
             (i32.const 0))"#,
    );
    filter.fail = fail;
    filter
}

#[test]
fn a_trap_closes_the_connections_of_its_instance_and_no_later_one() {
    let mut snapshot = snapshot(echo(), vec![trapping(FailStrategy::Close)]);
    let log = Log::new(&mut snapshot);
    let proxy = start(snapshot);
    let (mut trapping, mut beside) = (connect(&proxy), connect(&proxy));
    for client in [&mut trapping, &mut beside] {
        client.write_all(b"fine").unwrap();
        assert_eq!(take(client, 4), "fine");
    }
    trapping.write_all(b"trap").unwrap();
    assert_eq!(rest(&mut trapping), "");
    assert_eq!(rest(&mut beside), "");
    drop((trapping, beside));
    assert_eq!(ask(&proxy, "again"), "again");
    let lines = log.lines(&proxy);
    let failed = lines.iter().filter(|line| line["response_code_details"] == "filter_failed");
    assert_eq!(failed.count(), 2);
    assert_eq!(lines.len(), 3);
}

#[test]
fn with_fail_open_a_connection_goes_on_without_the_filter_that_trapped() {
    let proxy = start(snapshot(echo(), vec![tagging("a"), trapping(FailStrategy::Open)]));
    let mut client = connect(&proxy);
    client.write_all(b"x").unwrap();
    assert_eq!(take(&mut client, 3), "aax");
    // What the trapping filter sees begins with the tag, so a client cannot reach it but through no tag.
    drop(client);
    let proxy = start(snapshot(echo(), vec![trapping(FailStrategy::Open), tagging("a")]));
    let mut client = connect(&proxy);
    for text in ["trap", "more"] {
        client.write_all(text.as_bytes()).unwrap();
        assert_eq!(take(&mut client, 6), format!("aa{text}"));
    }
    until_metric(
        &proxy,
        r#"portcullis_filter_unavailable_total{filter="default/trapping",outcome="skipped"} 1"#,
    );
}

fn generation(number: u64, upstream: std::net::SocketAddr, filters: Vec<Filter>) -> Snapshot {
    Snapshot { generation: number, ..snapshot(upstream, filters) }
}

#[test]
fn a_connection_keeps_the_filters_that_it_began_with() {
    let upstream = echo();
    let proxy = start(generation(1, upstream, vec![tagging("1")]));
    let mut old = connect(&proxy);
    old.write_all(b"x").unwrap();
    assert_eq!(take(&mut old, 3), "11x");
    proxy.publish(generation(2, upstream, vec![tagging("2")])).unwrap();
    assert_eq!(ask(&proxy, "x"), "22x");
    old.write_all(b"y").unwrap();
    assert_eq!(take(&mut old, 3), "11y");
    assert_eq!(generations(&proxy), [1, 2]);
    drop(old);
    eventually("the old generation ends", || generations(&proxy) == [2]);
}

#[test]
fn a_connection_without_filters_pins_no_generation() {
    let upstream = echo();
    let proxy = start(generation(1, upstream, Vec::new()));
    let mut client = connect(&proxy);
    client.write_all(b"x").unwrap();
    assert_eq!(take(&mut client, 1), "x");
    proxy.publish(generation(2, upstream, Vec::new())).unwrap();
    eventually("the old generation ends", || generations(&proxy) == [2]);
    client.write_all(b"y").unwrap();
    assert_eq!(take(&mut client, 1), "y");
    assert_eq!(status(&proxy)["connections"], 1);
}

#[test]
fn a_drain_waits_for_connections_and_no_longer_than_it_may() {
    let proxy = start(snapshot(echo(), vec![tagging("t")]));
    let mut client = connect(&proxy);
    client.write_all(b"x").unwrap();
    assert_eq!(take(&mut client, 3), "ttx");
    assert!(!proxy.drain(Duration::ZERO, Duration::ZERO));
    client.write_all(b"y").unwrap();
    assert_eq!(take(&mut client, 3), "tty");
    drop(client);
    assert!(proxy.drain(Duration::ZERO, PATIENCE));
}
