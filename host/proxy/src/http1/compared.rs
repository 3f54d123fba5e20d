//! Heads are read as httparse reads them, whatever is wrong with them.

use http::Version;
use httparse::{EMPTY_HEADER, Header, Request, Response, Status};
use portcullis_vm::{Fields, Names};

use super::head::{self, Fault};
use super::incoming::ChunkLine;
use super::start::{NoHead, RequestLine, StatusLine, request_line, status_line};
use crate::message::is_plain_path;

/// What was read: the parts of the first line, the fields, and how long all of it is. Or why nothing was.
type Read = Result<(Vec<Vec<u8>>, Vec<(Vec<u8>, Vec<u8>)>, usize), String>;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Request,
    Response,
    Trailers,
}

const HEADS: [(Kind, &[u8]); 12] = [
    (
        Kind::Request,
        b"GET / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: some agent/1.0\r\nAccept: */*\r\n\r\nrest",
    ),
    (Kind::Request, b"\r\n\nPOST /a/long/path?q=%20&r HTTP/1.0\nX_Odd-Name9:value \n\n"),
    (
        Kind::Request,
        b"M-SEARCH * HTTP/1.1\r\na:\r\nbb: \r\nccc: \t x\ty \t\r\nDdDdDdDdDdDdDd: 1\r\n\r\n",
    ),
    (Kind::Request, b"CONNECT \xc3\xbc.test:443 HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
    (
        Kind::Request,
        b"GET http://u@[::1]:80/#f HTTP/1.1\r\nx: \xff\xfe obs-text and some more\r\n\r\n",
    ),
    (Kind::Request, b"G /{} HTTP/1.1\r\n\r\n"),
    (
        Kind::Response,
        b"HTTP/1.1 200 OK\r\nServer: s/1\r\nContent-Length: 38\r\nx-seen: \r\n\r\nbody",
    ),
    (Kind::Response, b"HTTP/1.0 404 Not\tFound\xe9\nDate:Thu, 26 Nov 2026 20:29:42 GMT\n\n"),
    (Kind::Response, b"\r\nHTTP/1.1 099\r\nVia: 1.1 a,\t1.1 b\r\n\r\n"),
    (Kind::Response, b"HTTP/1.1 204 \r\nSet-Cookie: a=b; path=/\r\nset-cookie: c\r\n\r\n"),
    (Kind::Trailers, b"Grpc-Status: 0\r\nGRPC-MESSAGE: some message\r\n\r\nmore"),
    (Kind::Trailers, b"\r\n"),
];

fn version(minor: Option<u8>) -> Vec<u8> {
    format!("{:?}", if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }).into()
}

/// Keeps the fields whose bits are set.
type Mask = u64;

const ALL: Mask = Mask::MAX;

fn is_kept(mask: Mask, at: usize) -> bool {
    mask >> (at % 64) & 1 == 1
}

fn by_httparse(kind: Kind, bytes: &[u8], mask: Mask) -> Read {
    let mut list = [EMPTY_HEADER; 100];
    let fields = |list: &[Header<'_>]| {
        let field = |one: &Header<'_>| (one.name.to_ascii_lowercase().into(), one.value.to_vec());
        let kept = list.iter().enumerate().filter(|(at, _)| is_kept(mask, *at));
        kept.map(|(_, one)| field(one)).collect()
    };
    let whole = |status| match status {
        Ok(Status::Complete(length)) => Ok(length),
        Ok(Status::Partial) => Err(NoHead::Incomplete.to_string()),
        Err(error) => Err(httparse::Error::to_string(&error)),
    };
    match kind {
        Kind::Request => {
            let mut head = Request::new(&mut list);
            let length = whole(head.parse(bytes))?;
            let text = |text: Option<&str>| text.unwrap_or_default().into();
            let line = vec![text(head.method), text(head.path), version(head.version)];
            Ok((line, fields(head.headers), length))
        }
        Kind::Response => {
            let mut head = Response::new(&mut list);
            let length = whole(head.parse(bytes))?;
            let code = head.code.unwrap_or_default().to_string();
            Ok((vec![version(head.version), code.into()], fields(head.headers), length))
        }
        Kind::Trailers => {
            let parsed = httparse::parse_headers(bytes, &mut list);
            let mut found = Vec::new();
            let length = whole(parsed.map(|status| match status {
                Status::Complete((length, list)) => {
                    found = fields(list);
                    Status::Complete(length)
                }
                Status::Partial => Status::Partial,
            }))?;
            Ok((Vec::new(), found, length))
        }
    }
}

fn ours(kind: Kind, bytes: &mut [u8], mask: Mask) -> Read {
    let reason = |no: NoHead| no.to_string();
    let (line, end) = match kind {
        Kind::Request => {
            let RequestLine { method, target, is_plain, version, end } =
                request_line(bytes).map_err(reason)?;
            assert_eq!(is_plain, is_plain_path(&bytes[target.clone()]));
            let version = format!("{version:?}").into();
            (vec![bytes[method].to_vec(), bytes[target].to_vec(), version], end)
        }
        Kind::Response => {
            let StatusLine { version, code, end } = status_line(bytes).map_err(reason)?;
            (vec![format!("{version:?}").into(), code.to_string().into()], end)
        }
        Kind::Trailers => (Vec::new(), 0),
    };
    let mut count = 0;
    let keep = |_: &[u8], _: &[u8]| {
        count += 1;
        is_kept(mask, count - 1)
    };
    let read = Fields::read(&mut bytes[end..], 100, keep);
    let (fields, length) = read.map_err(|no| reason(no.into()))?;
    let (mut written, mut lines) = (Vec::new(), Vec::new());
    fields.write_lines(&mut written, &Names::new(&[]));
    for (name, value) in fields.iter() {
        lines.extend([name, b": ", value, b"\r\n"].concat());
    }
    assert_eq!(written, lines);
    let fields = fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec()));
    Ok((line, fields.collect(), end + length))
}

fn compare(kind: Kind, bytes: &[u8], mask: Mask) {
    let mut lowered = bytes.to_vec();
    let read = ours(kind, &mut lowered, mask);
    assert_eq!(read, by_httparse(kind, bytes, mask), "{kind:?}: {}", bytes.escape_ascii());
    let end = read.map_or(0, |(_, _, length)| length);
    assert!(lowered.eq_ignore_ascii_case(bytes) && (end == 0 || lowered[end..] == bytes[end..]));
}

#[test]
fn what_has_come_of_a_head_is_read_alike_and_again_with_the_rest() {
    for (kind, head) in HEADS {
        let whole = by_httparse(kind, head, ALL);
        assert!(whole.is_ok(), "{kind:?}: {}", head.escape_ascii());
        for length in 0..=head.len() {
            compare(kind, &head[..length], ALL);
            let mut bytes = head.to_vec();
            _ = ours(kind, &mut bytes[..length], ALL);
            assert_eq!(ours(kind, &mut bytes, ALL), whole, "{length} of {}", head.escape_ascii());
        }
    }
}

#[test]
fn any_byte_in_any_place_is_taken_or_refused_alike() {
    for (kind, head) in HEADS {
        for place in 0..head.len() {
            let mut bytes = head.to_vec();
            for byte in 0..=u8::MAX {
                bytes[place] = byte;
                compare(kind, &bytes, ALL);
            }
            bytes.remove(place);
            compare(kind, &bytes, ALL);
            for byte in *b"\0\t\n\r :a\x7f\xff" {
                bytes.insert(place, byte);
                compare(kind, &bytes, ALL);
                bytes.remove(place);
            }
        }
    }
}

#[test]
fn heads_with_several_changes_are_read_alike() {
    let mut random = fastrand::Rng::with_seed(9112);
    for _ in 0..100_000 {
        let (kind, head) = HEADS[random.usize(..HEADS.len())];
        let mut bytes = head.to_vec();
        for _ in 0..random.usize(2..5) {
            let byte = *b"\t\n\r :a-_\0\x7f\xc3\xbc0/".get(random.usize(..15)).unwrap_or(&b'H');
            let place = random.usize(..=bytes.len());
            match random.u8(..4) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, byte),
                2 => bytes
                    .splice(place..place, head[..random.usize(..head.len())].iter().copied())
                    .for_each(drop),
                _ => bytes.iter_mut().skip(place).take(1).for_each(|old| *old = byte),
            }
        }
        compare(kind, &bytes, random.u64(..));
    }
}

#[test]
fn a_request_has_a_hundred_fields_at_the_most() {
    let read = |fields: usize| {
        let head = ["GET / HTTP/1.1\r\n", &"a: b\r\n".repeat(fields), "\r\n"].concat();
        head::request(&mut head.into_bytes())
            .map(|read| read.map(|(asking, _)| asking.request.head.headers.len()))
    };
    assert_eq!(read(100), Ok(Some(100)));
    assert_eq!(read(101), Err(Fault::TooLarge));
}

/// httparse takes a line without a digit for a zero, and reads over a line feed in an extension.
#[test]
fn a_line_that_begins_a_chunk_is_read_alike_and_has_digits_and_one_end() {
    let mut random = fastrand::Rng::with_seed(9112);
    for _ in 0..100_000 {
        let length = random.usize(..20);
        let any = |_| b"\r\n\r\n; \t0123456789abcdefABCDEF0g\xff=\"x"[random.usize(..35)];
        let mut bytes: Vec<u8> = (0..length).map(any).collect();
        if random.bool() {
            bytes.extend_from_slice(b"\r\n");
        }
        let expected = match httparse::parse_chunk_size(&bytes) {
            Ok(Status::Complete((length, size))) => Some((length, size)),
            _ => None,
        };
        let is_whole = |(length, _): &(usize, u64)| {
            bytes[0].is_ascii_hexdigit() && bytes[..length - 1].iter().all(|byte| *byte != b'\n')
        };
        let read = ChunkLine::at_beginning(&bytes).ok().flatten();
        let read = read.map(|line| (line.length, line.size));
        assert_eq!(read, expected.filter(is_whole), "{}", bytes.escape_ascii());
    }
}
