//! Upgraded connections.

use std::io::Write;

use portcullis_proxy::snapshot::*;

use super::{
    Scripted, connect, filtered, generations, read_exactly, read_head, read_rest, snapshot, status,
};
use crate::guests::{denier, marker};
use crate::harness::{address, eventually, raw, start};

const UPGRADE: &[u8] = b"GET /chat HTTP/1.1\r\nhost: app.test\r\nconnection: Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-key: abc\r\n\r\n";

/// Switches, says hello at once, and then sends back what it gets.
fn echo() -> Scripted {
    Scripted::new(|stream| {
        let head = read_head(stream).to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                  upgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nhello",
            )
            .unwrap();
        let mut back = stream.try_clone().unwrap();
        drop(std::io::copy(stream, &mut back));
    })
}

#[test]
fn an_upgraded_connection_is_a_tunnel_that_pins_no_generation() {
    let upstream = echo();
    let plain = || snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(filtered(plain(), vec![marker("one", "1")]));
    let mut client = connect(address(&proxy));
    client.write_all(UPGRADE).unwrap();
    let head = read_head(&mut client).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for line in
        ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: x", "x-mark: 1"]
    {
        assert!(head.contains(&format!("{line}\r\n")), "{line} is missing in {head}");
    }
    assert_eq!(read_exactly(&mut client, 5), b"hello");

    let mut next = plain();
    next.generation = 2;
    proxy.publish(next).unwrap();
    eventually("the old generation ends", || generations(&proxy) == [2]);
    client.write_all(b"ping").unwrap();
    assert_eq!(read_exactly(&mut client, 4), b"ping");
    assert_eq!(
        (&status(&proxy)["connections"], &status(&proxy)["exchanges"]),
        (&1.into(), &0.into())
    );

    drop(client);
    eventually("the tunnel ends", || status(&proxy)["connections"] == 0);
}

#[test]
fn an_upgrade_that_is_refused_is_an_ordinary_answer() {
    let upstream = Scripted::canned("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let proxy = start(snapshot(BackendProtocol::Http, upstream.address, |_| {}));
    let mut client = connect(address(&proxy));
    for _ in 0..2 {
        client.write_all(UPGRADE).unwrap();
        let head = read_head(&mut client);
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
        assert_eq!(read_exactly(&mut client, 2), b"no");
    }
}

#[test]
fn a_switch_that_nobody_asked_for_and_one_that_a_filter_forbids_reach_no_client() {
    let upstream = Scripted::new(|stream| {
        drop(read_head(stream));
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n").unwrap();
        drop(read_rest(stream));
    });
    let plain = || snapshot(BackendProtocol::Http, upstream.address, |_| {});
    let proxy = start(plain());
    let answer = raw(address(&proxy), b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n", "\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");

    let proxy = start(filtered(plain(), vec![denier()]));
    let denied = [&UPGRADE[..UPGRADE.len() - 2], b"x-deny: 1\r\n\r\n"].concat();
    let answer = raw(address(&proxy), &denied, "\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}
