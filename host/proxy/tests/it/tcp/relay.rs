//! Bytes from side to side, the ends of both, and what is known of a connection afterwards.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use portcullis_proxy::snapshot::*;

use super::{Log, ask, connect, echo, named, rest, server, snapshot, status, take, until_metric};
use crate::harness::{PATIENCE, Unserved, eventually, start};

#[test]
fn bytes_go_both_ways_and_are_counted_and_logged() {
    let mut plain = snapshot(echo(), Vec::new());
    let log = Log::new(&mut plain);
    let proxy = start(plain);
    assert_eq!(ask(&proxy, "hello"), "hello");
    until_metric(
        &proxy,
        r#"portcullis_tcp_connections_total{listener="tcp",route="default/tcp",backend="default/app",flags="-"} 1"#,
    );
    until_metric(
        &proxy,
        r#"portcullis_tcp_received_bytes_total{listener="tcp",route="default/tcp"} 5"#,
    );
    until_metric(
        &proxy,
        r#"portcullis_tcp_sent_bytes_total{listener="tcp",route="default/tcp"} 5"#,
    );
    let lines = log.lines(&proxy);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    for (field, value) in [
        ("bytes_received", 5.into()),
        ("bytes_sent", 5.into()),
        ("upstream_cluster", "default/app".into()),
        ("route_name", "default/tcp".into()),
        ("response_flags", "-".into()),
        ("method", serde_json::Value::Null),
        ("response_code", 0.into()),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    assert!(line["upstream_host"].is_string());
}

#[test]
fn a_server_may_speak_first() {
    let proxy = start(snapshot(named("welcome\n"), Vec::new()));
    let mut client = connect(&proxy);
    assert_eq!(take(&mut client, 8), "welcome\n");
    client.write_all(b"hi").unwrap();
    assert_eq!(take(&mut client, 2), "hi");
}

#[test]
fn a_client_that_has_ended_still_gets_what_the_server_says() {
    let upstream = server(|mut stream| {
        let asked = rest(&mut stream);
        stream.write_all(format!("you said {asked}").as_bytes()).unwrap();
    });
    let proxy = start(snapshot(upstream, Vec::new()));
    assert_eq!(ask(&proxy, "all of it"), "you said all of it");
}

#[test]
fn a_server_that_has_ended_still_gets_what_the_client_says() {
    let (sender, received) = channel();
    let upstream = server(move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        sender.send(rest(&mut stream)).unwrap();
    });
    let proxy = start(snapshot(upstream, Vec::new()));
    let mut client = connect(&proxy);
    assert_eq!(rest(&mut client), "bye");
    client.write_all(b"and thanks").unwrap();
    drop(client);
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), "and thanks");
}

#[test]
fn much_in_both_directions_at_once_arrives_whole() {
    const SIZE: usize = 8 << 20;
    let proxy = start(snapshot(echo(), Vec::new()));
    let client = connect(&proxy);
    let mut writer = client.try_clone().unwrap();
    let sent: Vec<u8> = (0..SIZE).map(|index| (index % 251) as u8).collect();
    let copy = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    (&client).read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent, "{} of {SIZE} bytes", received.len());
}

#[test]
fn what_cannot_be_served_is_closed_and_logged_with_its_reason() {
    let dead = Unserved::new();
    let unroutable = |edit: fn(&mut Snapshot)| {
        let mut snapshot = snapshot(dead.address(), Vec::new());
        edit(&mut snapshot);
        snapshot
    };
    let cases = [
        (unroutable(|_| {}), "UF", "upstream_unreachable"),
        (unroutable(|snapshot| snapshot.tcp_routes.clear()), "NR", "no_route"),
        (
            unroutable(|snapshot| {
                let mut route = (*snapshot.tcp_routes[0]).clone();
                route.backends[0].backend = None;
                snapshot.tcp_routes[0] = Arc::new(route);
            }),
            "NC",
            "no_backend",
        ),
    ];
    for (mut snapshot, flags, details) in cases {
        let log = Log::new(&mut snapshot);
        let proxy = start(snapshot);
        assert_eq!(rest(&mut connect(&proxy)), "", "{flags}");
        eventually("the connection ends", || status(&proxy)["connections"] == 0);
        let lines = log.lines(&proxy);
        assert_eq!(lines[0]["response_flags"], flags);
        assert_eq!(lines[0]["response_code_details"], details);
    }
}

#[test]
fn a_connection_on_which_nothing_moves_is_closed() {
    let mut brief = snapshot(named("quiet"), Vec::new());
    brief.limits.idle_timeout = Duration::from_millis(50);
    let log = Log::new(&mut brief);
    let proxy = start(brief);
    assert_eq!(rest(&mut connect(&proxy)), "quiet");
    eventually("the connection ends", || status(&proxy)["connections"] == 0);
    assert_eq!(log.lines(&proxy)[0]["response_flags"], "SI");
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let mut narrow = snapshot(named("in"), Vec::new());
    narrow.limits.connections = 1;
    let proxy = start(narrow);
    let mut first = connect(&proxy);
    assert_eq!(take(&mut first, 2), "in");
    assert_eq!(rest(&mut connect(&proxy)), "");
}

#[test]
fn a_backend_that_speaks_http_can_be_reached_by_bytes_as_well() {
    let upstream = echo();
    let mut snapshot = snapshot(upstream, Vec::new());
    let mut backend = (*snapshot.backends[0]).clone();
    backend.protocol = BackendProtocol::Http;
    snapshot.backends[0] = Arc::new(backend);
    assert_eq!(ask(&start(snapshot), "GET"), "GET");
}
