//! The first line of a head, of a request or of a response (RFC 9112, 3 and 4).
//!
//! What may stand in it is what httparse takes, hyper's parser, with which tests compare this one. What it means is decided
//! elsewhere.

use std::fmt;
use std::ops::Range;

use http::Version;
use portcullis_vm::NoFields;

use crate::message::path_length;

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// More has to come.
    Incomplete,
    /// A carriage return, and not the end of a line.
    NewLine,
    Token,
    Version,
    Status,
    Fields(NoFields),
}

impl From<NoFields> for NoHead {
    fn from(no: NoFields) -> NoHead {
        match no {
            NoFields::Incomplete => NoHead::Incomplete,
            no => NoHead::Fields(no),
        }
    }
}

impl fmt::Display for NoHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoHead::Incomplete => "incomplete",
            NoHead::NewLine => "invalid new line",
            NoHead::Token => "invalid token",
            NoHead::Version => "invalid HTTP version",
            NoHead::Status => "invalid response status",
            NoHead::Fields(no) => no.reason(),
        })
    }
}

/// Where the parts of a request's line lie.
pub(super) struct RequestLine {
    pub(super) method: Range<usize>,
    pub(super) target: Range<usize>,
    /// It is a path that any URI can hold.
    pub(super) is_plain: bool,
    pub(super) version: Version,
    pub(super) end: usize,
}

/// What the line of a response says.
pub(super) struct StatusLine {
    pub(super) version: Version,
    pub(super) code: u16,
    pub(super) end: usize,
}

/// The line of a request, behind any empty ones.
pub(super) fn request_line(head: &[u8]) -> Result<RequestLine, NoHead> {
    let start = skip_empty_lines(head)?;
    let method = start..start + count(&head[start..], is_token);
    let at = space(head, &method, NoHead::Token)?;
    let plain = path_length(&head[at..]);
    // What is no path may be a target all the same.
    let target = at..at + plain + count(&head[at + plain..], |byte| byte > b' ' && byte != 0x7f);
    let at = space(head, &target, NoHead::Token)?;
    let is_plain = head[target.start] == b'/' && target.len() == plain;
    if !is_plain && std::str::from_utf8(&head[target.clone()]).is_err() {
        return Err(NoHead::Token);
    }
    let (version, at) = version(head, at)?;
    let end = line_end(head, at, NoHead::NewLine)?;
    Ok(RequestLine { method, target, is_plain, version, end })
}

/// The line of a response, behind any empty ones. Of its reason nobody wants to know.
pub(super) fn status_line(head: &[u8]) -> Result<StatusLine, NoHead> {
    let (version, at) = version(head, skip_empty_lines(head)?)?;
    let at = space(head, &(0..at), NoHead::Version)?;
    let digits = count(&head[at..head.len().min(at + 3)], |byte| byte.is_ascii_digit());
    if digits < 3 {
        return Err(if at + digits < head.len() { NoHead::Status } else { NoHead::Incomplete });
    }
    let code = head[at..at + 3].iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let mut at = at + 3;
    if head.get(at) == Some(&b' ') {
        let is_text = |byte| matches!(byte, b'\t' | b' '..=0x7e | 0x80..);
        at += 1 + count(&head[at + 1..], is_text);
    }
    Ok(StatusLine { version, code, end: line_end(head, at, NoHead::Status)? })
}

fn skip_empty_lines(head: &[u8]) -> Result<usize, NoHead> {
    let mut at = 0;
    while let Some(b'\r' | b'\n') = head.get(at) {
        at = line_end(head, at, NoHead::NewLine)?;
    }
    Ok(at)
}

/// Where it goes on behind the space that ends something.
fn space(head: &[u8], behind: &Range<usize>, otherwise: NoHead) -> Result<usize, NoHead> {
    match head.get(behind.end) {
        Some(b' ') if !behind.is_empty() => Ok(behind.end + 1),
        Some(_) => Err(otherwise),
        None => Err(NoHead::Incomplete),
    }
}

fn version(head: &[u8], at: usize) -> Result<(Version, usize), NoHead> {
    match head[at..].first_chunk() {
        Some(b"HTTP/1.1") => Ok((Version::HTTP_11, at + 8)),
        Some(b"HTTP/1.0") => Ok((Version::HTTP_10, at + 8)),
        None if b"HTTP/1.".starts_with(&head[at..]) => Err(NoHead::Incomplete),
        _ => Err(NoHead::Version),
    }
}

fn line_end(head: &[u8], at: usize, otherwise: NoHead) -> Result<usize, NoHead> {
    match &head[at..] {
        [b'\r', b'\n', ..] => Ok(at + 2),
        [b'\n', ..] => Ok(at + 1),
        [] | [b'\r'] => Err(NoHead::Incomplete),
        _ => Err(otherwise),
    }
}

/// How many there are at the beginning.
fn count(bytes: &[u8], is_one: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| is_one(**byte)).count()
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'z' | b'|' | b'~')
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.')
}
