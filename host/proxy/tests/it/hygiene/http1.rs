//! The hygiene table of HTTP/1.1 (RFC 9110, RFC 9112), and limits that do not depend on the protocol.

use std::io::Write;
use std::time::Duration;

use portcullis_proxy::snapshot::Limits;

use super::{next_message, start, until_closed};
use crate::harness::eventually;

const COUNTED: &str = "portcullis_downstream_protocol_errors_total{listener=\"web\",kind=";

#[test]
fn malformed_http1_requests_are_refused() {
    let world = start(Limits::default());
    let refused = |name: &str, request: &str| world.refuses(name, request, 400);
    let with = |name: &str, lines: &str| {
        refused(name, &format!("POST / HTTP/1.1\r\nhost: x\r\n{lines}\r\n\r\nhello"));
    };
    with("lengths that disagree", "content-length: 5\r\ncontent-length: 6");
    with("a list of lengths", "content-length: 5, 6");
    with("a list of equal lengths", "content-length: 5, 5");
    with("a signed length", "content-length: +5");
    with("a negative length", "content-length: -5");
    with("a length that is no number", "content-length: 0x5");
    with("an empty length", "content-length: ");
    with("a length beyond all numbers", "content-length: 99999999999999999999");
    with("a transfer coding that is not chunked", "transfer-encoding: identity");
    with("chunked that is not the last coding", "transfer-encoding: chunked, gzip");
    with("a coding below chunked", "transfer-encoding: gzip, chunked");
    with("chunked twice", "transfer-encoding: chunked, chunked");
    with("codings in two fields", "transfer-encoding: gzip\r\ntransfer-encoding: chunked");
    with("almost chunked", "transfer-encoding: xchunked");
    with("chunked in quotes", "transfer-encoding: \"chunked\"");
    with("chunked behind a control character", "transfer-encoding: \x0bchunked");
    with("a space before the colon", "content-length : 5");
    with("a folded line", "x: a\r\n b");
    with("a field without a colon", "nonsense");
    with("a field without a name", ": x");
    with("NUL in a value", "x: a\0b");
    with("CR in a value", "x: a\rb");
    with("a name that is no token", "x{y}: a");
    with("two hosts", "host: y");
    with("the same host twice", "host: x");

    refused("no host", "GET / HTTP/1.1\r\n\r\n");
    refused("a host with a path", "GET / HTTP/1.1\r\nhost: x/y\r\n\r\n");
    refused("a host with a user", "GET / HTTP/1.1\r\nhost: u@x\r\n\r\n");
    refused("a host with a space", "GET / HTTP/1.1\r\nhost: x y\r\n\r\n");
    refused("a host that disagrees", "GET http://x/ HTTP/1.1\r\nhost: y\r\n\r\n");
    refused("a folded first line", "GET / HTTP/1.1\r\n host: x\r\n\r\n");
    refused("CONNECT", "CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\n\r\n");
    refused("HTTP/0.9", "GET /\r\n\r\n");
    refused("HTTP/3.0", "GET / HTTP/3.0\r\nhost: x\r\n\r\n");
    refused("a space in the path", "GET /a b HTTP/1.1\r\nhost: x\r\n\r\n");
    refused("a relative path", "GET a HTTP/1.1\r\nhost: x\r\n\r\n");
    refused("an asterisk without OPTIONS", "GET * HTTP/1.1\r\nhost: x\r\n\r\n");
    refused("a method that is no token", "G(T / HTTP/1.1\r\nhost: x\r\n\r\n");
    refused(
        "chunked in HTTP/1.0",
        "POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    );
}

#[test]
fn malformed_chunks_are_refused_and_never_complete_a_request() {
    let world = start(Limits::default());
    let check = |name: &str, body: &str| {
        let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        world.refuses(name, format!("{head}{body}GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"), 400);
    };
    check("a size that is no number", "x\r\nhello\r\n0\r\n\r\n");
    check("an empty size", "\r\nhello\r\n0\r\n\r\n");
    check("a signed size", "+5\r\nhello\r\n0\r\n\r\n");
    check("a size with a prefix", "0x5\r\nhello\r\n0\r\n\r\n");
    check("a size beyond all numbers", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n");
    check("a size that is too small", "3\r\nhello\r\n0\r\n\r\n");
    check("a chunk that ends in LF", "5\r\nhello\n0\r\n\r\n");
    check("a size that ends in LF", "5\nhello\r\n0\r\n\r\n");
    check("an extension with LF in it", "5;a\nb\r\nhello\r\n0\r\n\r\n");
    check("an end that is LF", "5\r\nhello\r\n0\r\n\n");
    check("a trailer that ends in LF", "5\r\nhello\r\n0\r\nx-end: yes\n\r\n");
}

#[test]
fn what_may_be_normalised_reaches_the_upstream_with_one_meaning() {
    let world = start(Limits::default());
    let close = "connection: close\r\n";
    let chunked =
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";

    let seen =
        world.forwards("a plain request", format!("GET /a?b HTTP/1.1\r\nhost: x\r\n{close}\r\n"));
    assert!(seen.starts_with("get /a?b http/1.1\r\n"), "{seen}");
    assert!(seen.contains("\r\nhost: x\r\n") && !seen.contains("connection: close"), "{seen}");

    let seen = world.forwards(
        "the same length twice",
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 5\r\n{close}\r\nhello"),
    );
    assert_eq!(seen.matches("content-length: 5\r\n").count(), 1, "{seen}");
    assert!(seen.ends_with("\r\n\r\nhello"), "{seen}");

    let seen =
        world.forwards("chunks with extensions", format!("{chunked}5;a=b\r\nhello\r\n0;c\r\n\r\n"));
    assert!(seen.contains("hello") && !seen.contains("a=b"), "{seen}");

    let seen =
        world.forwards("lines that end in LF", "GET / HTTP/1.1\nhost: x\nconnection: close\n\n");
    assert!(seen.contains("\r\nhost: x\r\n"), "{seen}");

    let absolute = format!("GET http://X/a HTTP/1.1\r\nhost: x\r\n{close}\r\n");
    let seen = world.forwards("the absolute form", absolute);
    assert!(seen.starts_with("get /a http/1.1\r\n"), "{seen}");
    assert_eq!(seen.matches("\r\nhost: x\r\n").count(), 1, "{seen}");

    let seen = world
        .forwards("the asterisk form", format!("OPTIONS * HTTP/1.1\r\nhost: x\r\n{close}\r\n"));
    assert!(seen.starts_with("options * http/1.1\r\n"), "{seen}");

    let seen = world.forwards("HTTP/1.0", "GET /old HTTP/1.0\r\nhost: x\r\n\r\n");
    assert!(seen.starts_with("get /old http/1.1\r\n"), "{seen}");

    let hop = "connection: close, x-hop, content-length\r\nx-hop: 1\r\nkeep-alive: 1\r\nproxy-connection: a\r\nte: gzip\r\n";
    let request = format!("POST / HTTP/1.1\r\nhost: x\r\n{hop}content-length: 5\r\n\r\nhello");
    let seen = world.forwards("fields of one connection", request);
    for gone in ["x-hop", "keep-alive", "proxy-connection", "te: gzip"] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
    assert!(seen.ends_with("\r\n\r\nhello"), "{seen}");
}

/// A recipient that believes the length sees a second request where one that believes the coding does not, or the other
/// way round: there must be one meaning, and the connection must end.
#[test]
fn both_a_length_and_a_coding_smuggle_nothing() {
    let world = start(Limits::default());
    let orders = [
        "content-length: 6\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 6",
        "transfer-encoding: chunked\r\ncontent-length: 6\r\ncontent-length: 7",
        "content-length: 0\r\ntransfer-encoding: chunked",
    ];
    for lines in orders {
        let before = world.served();
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
        let request = format!("POST / HTTP/1.1\r\nhost: x\r\n{lines}\r\n\r\n0\r\n\r\n{smuggled}");
        let answer = world.exchange(request.as_bytes());
        assert!(!answer.contains("smuggled"), "{lines}: {answer}");
        let answers = ["HTTP/1.1 200 ", "HTTP/1.1 400 "].map(|line| answer.matches(line).count());
        assert_eq!(answers.iter().sum::<usize>(), 1, "{lines}: {answer}");
        let (_, seen) = answer.split_once("\r\n\r\n").unwrap();
        if answer.starts_with("HTTP/1.1 200 ") {
            let seen = seen.to_ascii_lowercase();
            let framed = (seen.contains("content-length"), seen.contains("transfer-encoding"));
            assert_ne!(framed, (true, true), "{lines}: {seen}");
            assert_eq!(world.served(), before + 1);
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let world = start(Limits::default());
    let mut request = String::new();
    for number in 0..5 {
        let length = number * 3;
        let body = "b".repeat(length);
        request += &format!(
            "POST /{number} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
        );
    }
    request += "GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = world.exchange(request.as_bytes()).to_ascii_lowercase();
    let order: Vec<_> = answer
        .lines()
        .filter_map(|line| line.strip_prefix("post /").or(line.strip_prefix("get /")))
        .collect();
    let expected = ["0", "1", "2", "3", "4", "last"].map(|path| format!("{path} http/1.1"));
    assert_eq!(order, expected);
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let world = start(Limits { request_header_bytes: 16 << 10, ..Limits::default() });
    let large = "y".repeat(17 << 10);
    world.refuses("a field", format!("GET / HTTP/1.1\r\nhost: x\r\nx: {large}\r\n\r\n"), 431);
    world.refuses("a path", format!("GET /{large} HTTP/1.1\r\nhost: x\r\n\r\n"), 431);
    let many: String = (0..200).map(|number| format!("x{number}: y\r\n")).collect();
    world.refuses("many fields", format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n"), 431);

    let world = start(Limits { request_header_bytes: 256 << 10, ..Limits::default() });
    let long = "y".repeat(70_000);
    world.refuses("a long path", format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"), 414);
    eventually("the refusal is counted", || {
        let text = world.proxy.metrics();
        let mut lines = text.lines();
        lines.any(|line| line.starts_with(COUNTED) && line.ends_with(" 1"))
    });
}

#[test]
fn a_head_that_does_not_arrive_in_time_is_refused() {
    let timeout = Duration::from_millis(50);
    let world = start(Limits { request_header_timeout: timeout, ..Limits::default() });
    world.refuses("the beginning of a request line", "GE", 408);
    world.refuses("half a head", "GET / HTTP/1.1\r\nhost: x\r\n", 408);
    world.refuses("the beginning of an HTTP/2 preface", "PRI * HTT", 408);

    let mut stream = world.connect();
    stream.write_all(b"GET /first HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = Vec::new();
    assert!(next_message(&mut stream, &mut first).is_some());
    stream.write_all(b"GET /second HTT").unwrap();
    let answer = until_closed(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn connections_over_the_limit_are_closed_and_counted() {
    let world = start(Limits { connections: 2, ..Limits::default() });
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let hold = || {
        let mut stream = world.connect();
        stream.write_all(request).unwrap();
        let mut bytes = Vec::new();
        assert!(next_message(&mut stream, &mut bytes).is_some());
        stream
    };
    let (held, _other) = (hold(), hold());
    assert_eq!(world.exchange(request), "");
    let refused = "portcullis_downstream_connections_refused_total{listener=\"web\"} 1\n";
    assert!(world.proxy.metrics().contains(refused), "{}", world.proxy.metrics());
    drop(held);
    eventually("there is room again", || {
        !world.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").is_empty()
    });
}
