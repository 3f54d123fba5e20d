//! What becomes of a client's HTTP/1 connection after an answer: kept, closed, or closed late.

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portcullis_proxy::Snapshot;
use portcullis_proxy::snapshot::Limits;

use super::{World, next_message, start, until_closed};
use crate::harness;

/// Sends a request and reads one answer; nothing if the connection is closed first.
fn ask(stream: &mut std::net::TcpStream, request: &str) -> Option<String> {
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let length = next_message(stream, &mut bytes)?;
    assert_eq!(bytes.len(), length, "more than one answer");
    Some(String::from_utf8(bytes).unwrap().to_ascii_lowercase())
}

fn is_closed(mut stream: std::net::TcpStream) -> bool {
    stream.read(&mut [0]).unwrap() == 0
}

#[test]
fn http10_clients_keep_their_connection_only_if_they_ask_for_it() {
    let world = start(Limits::default());
    let mut kept = world.connect();
    for _ in 0..2 {
        let request = "GET / HTTP/1.0\r\nhost: x\r\nconnection: keep-alive\r\n\r\n";
        let answer = ask(&mut kept, request).unwrap();
        assert!(answer.contains("\r\nconnection: keep-alive\r\n"), "{answer}");
    }
    for lines in ["", "connection: close\r\n", "connection: keep-alive, close\r\n"] {
        let mut stream = world.connect();
        let answer = ask(&mut stream, &format!("GET / HTTP/1.0\r\nhost: x\r\n{lines}\r\n"));
        let answer = answer.unwrap();
        assert!(!answer.contains("\r\nconnection: keep-alive\r\n"), "{lines}: {answer}");
        assert!(is_closed(stream), "{lines}");
    }
}

#[test]
fn http11_clients_keep_their_connection_until_they_want_it_closed() {
    let world = start(Limits::default());
    let mut stream = world.connect();
    for _ in 0..2 {
        let answer = ask(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert!(!answer.contains("\r\nconnection:"), "{answer}");
    }
    let last = "GET / HTTP/1.1\r\nhost: x\r\nConnection: Keep-Alive, CLOSE\r\n\r\n";
    let answer = ask(&mut stream, last).unwrap();
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(is_closed(stream));
}

#[test]
fn every_answer_has_one_date() {
    let world = start(Limits::default());
    let mut stream = world.connect();
    let answer = ask(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let dates: Vec<_> = head.lines().filter_map(|line| line.strip_prefix("date: ")).collect();
    let [date] = dates[..] else { panic!("{head}") };
    assert!(date.len() == 29 && date.ends_with(" gmt"), "{date}");
}

#[test]
fn what_is_no_request_is_told_so_with_a_code() {
    let world = start(Limits { request_header_bytes: 16 << 10, ..Limits::default() });
    let large = "y".repeat(17 << 10);
    for (request, line, code) in [
        ("G(T / HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), "http/1.1 400 bad request", "p0710"),
        (
            format!("GET / HTTP/1.1\r\nhost: x\r\nx: {large}\r\n\r\n"),
            "http/1.1 431 request header fields too large",
            "p0712",
        ),
    ] {
        let answer = world.exchange(request.as_bytes()).to_ascii_lowercase();
        assert!(answer.starts_with(line), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains(&format!("\r\nx-portcullis-code: {code}\r\n")), "{answer}");
        assert!(answer.contains(&format!("\r\n\r\n{code} ")), "{answer}");
    }
}

/// A connection that is closed with something unread in it is reset, and the reset may overtake the answer.
#[test]
fn a_client_that_is_still_sending_gets_its_answer_whole() {
    let world = start(Limits::default());
    let body = vec![b'b'; 8 << 20];
    for lines in [format!("content-length: {}", body.len()), "content-length: 5, 5".to_owned()] {
        let mut stream = world.connect();
        let mut writer = stream.try_clone().unwrap();
        // Two hosts: refused before any of the body is wanted.
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\nhost: y\r\n{lines}\r\n\r\n");
        let sending = thread::spawn({
            let body = body.clone();
            move || writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&body)).is_ok()
        });
        assert!(sending.join().unwrap(), "{lines}: the connection was reset");
        let answer = until_closed(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lines}: {answer}");
        assert!(answer.ends_with("P0710 the request is malformed\n"), "{lines}: {answer}");
    }
}

#[test]
fn a_body_that_nobody_wanted_is_read_over_and_the_connection_goes_on() {
    let listeners = vec![Arc::new(harness::listener("web"))];
    let proxy = harness::start(Snapshot { generation: 1, listeners, ..Snapshot::default() });
    let mut stream = std::net::TcpStream::connect(harness::address(&proxy)).unwrap();
    stream.set_read_timeout(Some(harness::PATIENCE)).unwrap();
    for _ in 0..2 {
        let request = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
        let answer = ask(&mut stream, request).unwrap();
        assert!(answer.starts_with("http/1.1 404 "), "{answer}");
    }
}

#[test]
fn half_a_request_at_the_end_is_counted_and_answered_by_nothing() {
    let world = start(Limits::default());
    let mut stream = world.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(until_closed(&mut stream), "");
    counted(&world, "incomplete");
}

#[test]
fn a_client_that_leaves_between_requests_has_made_no_error() {
    let world = start(Limits::default());
    for after in ["", "\r\n", "\n\r\n"] {
        let mut stream = world.connect();
        ask(&mut stream, &format!("GET / HTTP/1.1\r\nhost: x\r\n\r\n{after}")).unwrap();
        // With a reset instead of an end.
        let stream = socket2::Socket::from(stream);
        stream.set_linger(Some(Duration::ZERO)).unwrap();
    }
    world.refuses("the last one", "nonsense\r\n\r\n", 400);
    counted(&world, "400");
    assert!(!world.proxy.metrics().contains("kind=\"incomplete\""), "{}", world.proxy.metrics());
}

#[test]
fn empty_lines_between_requests_begin_no_request() {
    let limits = Limits {
        request_header_timeout: Duration::from_millis(50),
        idle_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let world = start(limits);
    let mut stream = world.connect();
    ask(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n\r\n").unwrap();
    // The idle timeout closes it, and nobody says that a head took too long.
    assert_eq!(until_closed(&mut stream), "");
    let mut stream = world.connect();
    ask(&mut stream, "\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
}

#[test]
fn a_refusal_is_not_followed_by_another_one() {
    // As long as the pause of a client that might still be sending.
    let timeout = Duration::from_secs(1);
    let world = start(Limits { request_header_timeout: timeout, ..Limits::default() });
    let mut stream = world.connect();
    stream.write_all(b"GET /").unwrap();
    stream.write_all(b" bad bad\r\n\r\n").unwrap();
    // The client does not close.
    assert!(until_closed(&mut stream).starts_with("HTTP/1.1 400 "));
    counted(&world, "400");
    drop(stream);
    harness::eventually("the connection is gone", || {
        world
            .proxy
            .metrics()
            .contains("portcullis_downstream_connections_active{listener=\"web\"} 0")
    });
    assert!(!world.proxy.metrics().contains("kind=\"408\""), "{}", world.proxy.metrics());
}

fn counted(world: &World, kind: &str) {
    let line = format!(
        "portcullis_downstream_protocol_errors_total{{listener=\"web\",kind=\"{kind}\"}} 1"
    );
    harness::eventually("it is counted", || world.proxy.metrics().contains(&line));
}
