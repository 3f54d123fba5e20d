//! The hygiene table of HTTP/2 (RFC 9113), with frames made by hand: no client library would send them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use portcullis_proxy::snapshot::Limits;

use super::{World, start, start_with};
use crate::harness::rule_to;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ENHANCE_YOUR_CALM: u32 = 11;

pub(super) type Fields<'a> = &'a [(&'a str, &'a str)];

const GET: Fields<'static> =
    &[(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/")];

/// What became of stream 1.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Status(u16),
    Reset,
    /// The whole connection, with this error code.
    GoAway(u32),
    Closed,
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// HPACK without table and Huffman code (RFC 7541, 6.2.2).
pub(super) fn block(fields: Fields<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// RFC 7541, 5.1, with a prefix of 7 bits.
fn integer(block: &mut Vec<u8>, value: usize) {
    if value < 127 {
        return block.push(u8::try_from(value).unwrap());
    }
    block.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

fn request(stream: u32, fields: Fields<'_>) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
}

fn open(world: &World) -> TcpStream {
    let mut stream = world.connect();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    stream
}

/// Kind, flags, stream and payload; `None` when the other side has closed.
pub(super) fn read_frame(stream: &mut TcpStream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

/// Reads until it is clear what became of the stream. A settings frame or a ping is not answered.
fn end_of(connection: &mut TcpStream, id: u32) -> End {
    while let Some((kind, _, stream, payload)) = read_frame(connection) {
        match kind {
            HEADERS if stream == id => return End::Status(status(&payload)),
            RST_STREAM if stream == id => return End::Reset,
            GOAWAY => {
                let code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
                if code != 0 {
                    return End::GoAway(code);
                }
            }
            _ => {}
        }
    }
    End::Closed
}

/// The status at the beginning of a header block: of the static table, or spelled out with Huffman's code.
fn status(block: &[u8]) -> u16 {
    match block {
        [0x88, ..] => 200,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x08 | 0x48, 0x83, 0x69, 0x90, 0xff, ..] => 431,
        [0x08 | 0x48, 0x83, 0x6c, 0x0d, 0x7f, ..] => 504,
        other => panic!("unknown status {other:02x?}"),
    }
}

/// Sends frames on a fresh connection.
fn send(world: &World, frames: &[u8]) -> End {
    let mut connection = open(world);
    // The proxy may have answered and closed before it has read everything.
    let _ = connection.write_all(frames);
    end_of(&mut connection, 1)
}

fn still_serves(world: &World) {
    assert_eq!(send(world, &request(1, GET)), End::Status(200));
}

#[test]
fn a_well_formed_http2_request_is_forwarded() {
    let world = start(Limits::default());
    still_serves(&world);
    assert_eq!(world.served(), 1);
    let with_host = [GET, &[("host", "x"), ("te", "trailers")]].concat();
    assert_eq!(send(&world, &request(1, &with_host)), End::Status(200));
}

#[test]
fn malformed_http2_requests_are_refused() {
    let world = start(Limits::default());
    let check = |name: &str, fields: Fields<'_>| {
        let end = send(&world, &request(1, fields));
        let refused = matches!(end, End::Status(400) | End::Reset | End::GoAway(_) | End::Closed);
        assert!(refused, "{name}: {end:?}");
    };
    let more = |name: &str, field: (&str, &str)| check(name, &[GET, &[field]].concat());
    more("an upper-case name", ("X-Upper", "y"));
    more("a connection field", ("connection", "close"));
    more("a keep-alive field", ("keep-alive", "1"));
    more("a transfer coding", ("transfer-encoding", "chunked"));
    more("an upgrade", ("upgrade", "websocket"));
    more("te that is not trailers", ("te", "gzip"));
    more("a pseudo header after a field", (":path", "/b"));
    more("an unknown pseudo header", (":what", "y"));
    more("a response's pseudo header", (":status", "200"));
    more("a host that disagrees", ("host", "y"));
    more("NUL in a value", ("x", "a\0b"));
    more("CR in a value", ("x", "a\rb"));
    more("LF in a value", ("x", "a\nb"));
    more("a name that is no token", ("x{y}", "a"));
    more("a name with a space", ("x y", "a"));
    more("an empty name", ("", "a"));
    more("a length and no body", ("content-length", "5"));

    let path = |name: &str, path: &str| {
        check(
            name,
            &[(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", path)],
        );
    };
    path("an empty path", "");
    path("a relative path", "a");
    path("a path with a space", "/a b");
    path("an asterisk without OPTIONS", "*");
    check("no path", &GET[..3]);
    check("no method", &GET[1..]);
    check("no authority", &[GET[0], GET[1], GET[3]]);
    check("the same path twice", &[GET[0], GET[1], GET[2], GET[3], GET[3]]);
    check("an authority with a user", &[GET[0], GET[1], (":authority", "u@x"), GET[3]]);
    check("CONNECT", &[(":method", "CONNECT"), (":authority", "x:443")]);
    assert_eq!(world.served(), 0);
    still_serves(&world);
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_completes_no_request() {
    let world = start(Limits::default());
    let post = |length: &str, body: &[u8]| {
        let fields = [(":method", "POST"), GET[1], GET[2], GET[3], ("content-length", length)];
        let head = frame(HEADERS, END_HEADERS, 1, &block(&fields));
        send(&world, &[head, frame(DATA, END_STREAM, 1, body)].concat())
    };
    for (length, body) in [("6", b"hello".as_slice()), ("4", b"hello"), ("0", b"hello"), ("x", b"")]
    {
        let end = post(length, body);
        let refused = matches!(end, End::Status(400) | End::Reset | End::GoAway(_));
        assert!(refused, "{length}: {end:?}");
    }
    assert_eq!(world.served(), 0);
    assert_eq!(post("5", b"hello"), End::Status(200));
}

#[test]
fn http2_heads_that_are_too_large_are_refused() {
    let world = start(Limits { request_header_bytes: 16 << 10, ..Limits::default() });
    let large = "y".repeat(12 << 10);
    let block = block(&[GET, &[("a", &large), ("b", &large)]].concat());
    let (first, rest) = block.split_at(16 << 10);
    let frames = [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)];
    let end = send(&world, &frames.concat());
    let refused = matches!(end, End::Status(431) | End::Reset | End::GoAway(_));
    assert!(refused, "{end:?}");
    assert_eq!(world.served(), 0);
    still_serves(&world);
}

#[test]
fn however_many_fields_a_client_sends_those_of_the_proxy_are_there() {
    let world = start(Limits::default());
    let mut connection = open(&world);
    let fields = [GET, &[("y", "1"); 1500]].concat();
    connection.write_all(&request(1, &fields)).unwrap();
    assert_eq!(end_of(&mut connection, 1), End::Status(200));
    let mut seen = Vec::new();
    while let Some((kind, flags, _, payload)) = read_frame(&mut connection) {
        if kind == DATA {
            seen.extend(payload);
        }
        if kind == DATA && flags & END_STREAM != 0 {
            break;
        }
    }
    let seen = String::from_utf8(seen).unwrap();
    assert_eq!(seen.lines().filter(|line| *line == "y: 1").count(), 1500);
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-request-id"] {
        assert_eq!(seen.matches(&format!("\r\n{name}: ")).count(), 1, "{name}");
    }
}

#[test]
fn a_body_in_many_pieces_does_not_keep_the_timeout_from_coming() {
    let mut rule = rule_to(0);
    rule.timeouts.request = Some(Duration::from_millis(200));
    let world = start_with(Limits::default(), rule);
    // Its connection to the upstream is used again, so that nothing is waited for before the body.
    still_serves(&world);
    let post: Fields<'_> =
        &[&[(":method", "POST")], &GET[1..], &[("content-length", "1000")]].concat();
    let mut frames = frame(HEADERS, END_HEADERS, 1, &block(post));
    (0..300).for_each(|_| frames.extend(frame(DATA, 0, 1, b"a")));
    assert_eq!(send(&world, &frames), End::Status(504));
}

#[test]
fn requests_that_are_reset_at_once_end_the_connection() {
    let world = start(Limits::default());
    let mut frames = Vec::new();
    for number in 0..5000 {
        frames.extend(request(2 * number + 1, GET));
        frames.extend(frame(RST_STREAM, 0, 2 * number + 1, &8_u32.to_be_bytes()));
    }
    let mut connection = open(&world);
    let _ = connection.write_all(&frames);
    assert_eq!(end_of(&mut connection, u32::MAX), End::GoAway(ENHANCE_YOUR_CALM));
    still_serves(&world);
}

#[test]
fn a_head_without_end_ends_the_connection() {
    let world = start(Limits::default());
    let mut frames = frame(HEADERS, END_STREAM, 1, &block(GET));
    let field = block(&[("x", "y".repeat(1000).as_str())]);
    for _ in 0..10_000 {
        frames.extend(frame(CONTINUATION, 0, 1, &field));
    }
    let end = send(&world, &frames);
    assert!(matches!(end, End::GoAway(_) | End::Closed), "{end:?}");
    still_serves(&world);
}

#[test]
fn frames_out_of_place_end_the_connection() {
    let world = start(Limits::default());
    let check = |name: &str, frames: &[u8]| {
        let end = send(&world, frames);
        assert!(matches!(end, End::GoAway(_) | End::Closed), "{name}: {end:?}");
    };
    check("data of no stream", &frame(DATA, 0, 0, b"x"));
    check("data of a stream that is idle", &frame(DATA, 0, 1, b"x"));
    check("an even stream", &request(2, GET));
    check("a continuation of nothing", &frame(CONTINUATION, END_HEADERS, 1, &block(GET)));
    check("settings of odd length", &frame(SETTINGS, 0, 0, &[0; 5]));
    check("a settings answer with content", &frame(SETTINGS, ACK, 0, &[0; 6]));
    check("a short ping", &frame(PING, 0, 0, &[0; 7]));
    check("a header block that cannot be decoded", &frame(HEADERS, END_HEADERS, 1, &[0xff; 20]));
    check("a frame that is too large", &frame(HEADERS, END_HEADERS, 1, &[0; 20_000]));
    assert_eq!(world.served(), 0);
    still_serves(&world);
}
