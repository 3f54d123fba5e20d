//! What the head of a message says: its fields, where its body ends, and whether the connection goes on.

use std::fmt;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode, Uri, Version};
use portcullis_vm::{Fields, NoFields, ResponseHead};

use super::start::{NoHead, RequestLine, StatusLine, request_line, status_line};
use crate::message::{self, Request};

/// Fields of a head, and of trailers; as in hyper.
const MAX_FIELDS: usize = 100;
/// Bytes of a request's target; [`Uri`] holds no more.
const MAX_TARGET: usize = 65_534;

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// There is none.
    AtOnce,
    /// After so many bytes.
    After(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    WithConnection,
}

/// What is wrong with a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no HTTP, or contradicts itself.
    Malformed(String),
    /// It is longer than the limit, or has more than 100 fields.
    TooLarge,
    /// A request's target is longer than any recipient takes.
    TargetTooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Malformed(reason) => f.write_str(reason),
            Fault::TooLarge => f.write_str("the head is too long, or has too many fields"),
            Fault::TargetTooLong => f.write_str("the request's target is too long"),
        }
    }
}

fn malformed(reason: impl Into<String>) -> Fault {
    Fault::Malformed(reason.into())
}

/// The head of a response, and what it says of its connection.
pub(super) struct Answer {
    pub(super) head: ResponseHead,
    pub(super) version: Version,
    said: Said,
}

/// What stands at the beginning of some bytes, and how long it is; nothing while it is incomplete.
pub(super) type Parsed<M> = Result<Option<(M, usize)>, Fault>;

/// The head of a response.
pub(super) fn response(bytes: &mut [u8]) -> Parsed<Answer> {
    let parsed = status_line(bytes).and_then(|line| Ok((fields(&mut bytes[line.end..])?, line)));
    let ((headers, said, length), line) = match parsed {
        Ok(parsed) => parsed,
        Err(NoHead::Incomplete) => return Ok(None),
        Err(problem) => return Err(malformed(format!("the answer is no HTTP: {problem}"))),
    };
    let StatusLine { version, code, end } = line;
    let status = StatusCode::from_u16(code)
        .map_err(|_| malformed(format!("the answer has the status {code}, which is none")))?;
    Ok(Some((Answer { head: ResponseHead { status, headers }, version, said }, end + length)))
}

/// A request, and what its head says of its body and its connection.
pub(super) struct Asking {
    pub(super) request: Request,
    /// Where the body ends, or why recipients could take it for different requests.
    pub(super) ends: Result<Ends, Fault>,
    /// Whether the connection may carry another exchange.
    pub(super) keeps_open: bool,
}

/// The head of a request.
pub(super) fn request(bytes: &mut [u8]) -> Parsed<Asking> {
    let parsed = request_line(bytes).and_then(|line| Ok((fields(&mut bytes[line.end..])?, line)));
    let ((mut headers, said, length), line) = match parsed {
        Ok(parsed) => parsed,
        Err(NoHead::Incomplete) => return Ok(None),
        Err(NoHead::Fields(NoFields::TooLarge)) => return Err(Fault::TooLarge),
        Err(problem) => return Err(malformed(format!("the request is no HTTP: {problem}"))),
    };
    let RequestLine { method, target, is_plain, version, end } = line;
    if target.len() > MAX_TARGET {
        return Err(Fault::TargetTooLong);
    }
    let method = Method::from_bytes(&bytes[method])
        .map_err(|_| malformed("the request's method is none"))?;
    let target = match is_plain {
        true => (Bytes::new(), Bytes::copy_from_slice(&bytes[target])),
        false => split(&bytes[target])?,
    };
    let ends = said.request_ends(version, &mut headers);
    let keeps_open = said.keeps_open(version);
    let request = Request::new(method, target, version, headers);
    Ok(Some((Asking { request, ends, keeps_open }, end + length)))
}

/// Authority and path of a target.
fn split(target: &[u8]) -> Result<(Bytes, Bytes), Fault> {
    let none = |problem| malformed(format!("the request's target is none: {problem}"));
    Ok(message::target(&Uri::try_from(target).map_err(none)?))
}

/// Trailers, up to the empty line.
pub(super) fn trailers(bytes: &mut [u8]) -> Parsed<Fields> {
    match fields(bytes) {
        // Recipients differ in what they make of it, and so in where the body ends.
        Ok((.., length)) if has_bare_line_feed(&bytes[..length]) => {
            Err(malformed("a line of the trailers ends without a carriage return"))
        }
        Ok((trailers, _, length)) => Ok(Some((trailers, length))),
        Err(NoFields::Incomplete) => Ok(None),
        Err(problem) => Err(malformed(format!("the trailers are no HTTP: {}", problem.reason()))),
    }
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'\n') || bytes.windows(2).any(|two| two[1] == b'\n' && two[0] != b'\r')
}

/// The fields up to the empty line, what is said by them, and how long they are. What has been said with its note is left out.
fn fields(lines: &mut [u8]) -> Result<(Fields, Said, usize), NoFields> {
    let mut said = Said::default();
    let keep = |name: &[u8], value: &[u8]| said.note(name, value) == Noted::InPart;
    let (fields, length) = Fields::read(lines, MAX_FIELDS, keep)?;
    Ok((fields, said, length))
}

impl Answer {
    /// Whether the connection may carry another exchange.
    pub(super) fn keeps_open(&self) -> bool {
        self.said.keeps_open(self.version)
    }

    /// Where the body of an answer ends (RFC 9112, 6.3), which its fields say in one way afterwards.
    ///
    /// # Errors
    /// They contradict each other, or name a coding that was not asked for.
    pub(super) fn ends(&mut self, to_head: bool) -> Result<Ends, Fault> {
        let Answer { head: ResponseHead { status, headers }, version, said } = self;
        let coding = said.coding(*version)?;
        let length = match coding {
            None => said.length(headers)?,
            Some(_) => {
                // It would say something else to whoever gets the answer next.
                headers.remove(CONTENT_LENGTH);
                None
            }
        };
        let bodyless = matches!(*status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if to_head || bodyless || status.is_informational() {
            return Ok(Ends::AtOnce);
        }
        Ok(match (coding, length) {
            (Some(Coding::Chunked), _) => Ends::Chunked,
            (None, Some(0)) => Ends::AtOnce,
            (None, Some(length)) => Ends::After(length),
            (Some(Coding::Identity), _) | (None, None) => Ends::WithConnection,
        })
    }
}

/// What a head says of its body and its connection, noted while its fields are collected: looking them up afterwards costs
/// more than all the rest.
#[derive(Debug, Default)]
struct Said {
    lengths: usize,
    /// Nothing, too, if they are not one number.
    length: Option<u64>,
    /// Several lengths stand in one field.
    list: bool,
    codings: usize,
    coding: Option<Coding>,
    close: bool,
    keep_alive: bool,
}

#[derive(Clone, Copy, Debug)]
enum Coding {
    Chunked,
    /// The one that is none (RFC 2616).
    Identity,
}

/// Whether a note says all that a field does.
#[derive(PartialEq)]
enum Noted {
    Wholly,
    InPart,
}

impl Said {
    #[inline]
    fn note(&mut self, name: &[u8], value: &[u8]) -> Noted {
        // Few others are as long.
        match name.len() {
            10 | 14 | 17 => self.note_named(name, value),
            _ => Noted::InPart,
        }
    }

    #[inline(never)]
    fn note_named(&mut self, name: &[u8], value: &[u8]) -> Noted {
        match name {
            b"connection" => return self.note_connection(value),
            b"content-length" => match number(value) {
                None => {
                    self.list |= value.contains(&b',');
                    elements(value).for_each(|length| self.note_length(number(length)));
                }
                length => self.note_length(length),
            },
            b"transfer-encoding" => {
                self.codings += 1;
                self.coding = match value.trim_ascii() {
                    coding if coding.eq_ignore_ascii_case(b"chunked") => Some(Coding::Chunked),
                    coding if coding.eq_ignore_ascii_case(b"identity") => Some(Coding::Identity),
                    _ => None,
                };
            }
            _ => {}
        }
        Noted::InPart
    }

    fn note_connection(&mut self, value: &[u8]) -> Noted {
        let mut noted = Noted::Wholly;
        // Most say only this, in this way.
        if value == b"keep-alive" {
            self.keep_alive = true;
            return noted;
        }
        for option in elements(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else {
                noted = Noted::InPart;
            }
        }
        noted
    }

    fn note_length(&mut self, length: Option<u64>) {
        self.lengths += 1;
        self.length = length.filter(|_| self.lengths == 1 || self.length == length);
    }

    fn coding(&self, version: Version) -> Result<Option<Coding>, Fault> {
        match (self.codings, self.coding) {
            (0, _) => Ok(None),
            _ if version == Version::HTTP_10 => {
                Err(malformed("a transfer-encoding, which HTTP/1.0 does not know"))
            }
            (1, Some(coding)) => Ok(Some(coding)),
            _ => Err(malformed("a transfer-encoding other than chunked")),
        }
    }

    /// What `content-length` says; said several times, it is left once.
    fn length(&self, headers: &mut Fields) -> Result<Option<u64>, Fault> {
        if self.lengths > 0 && self.length.is_none() {
            return Err(malformed("content-length is not one number"));
        }
        if let Some(length) = self.length.filter(|_| self.lengths > 1) {
            let _fits = headers.insert(CONTENT_LENGTH, length.to_string());
        }
        Ok(self.length)
    }

    /// Whether the connection may carry another exchange (RFC 9112, 9.3).
    fn keeps_open(&self, version: Version) -> bool {
        !self.close && (self.keep_alive || version != Version::HTTP_10)
    }

    /// Where the body of a request ends (RFC 9112, 6.3), which its fields say in one way afterwards.
    ///
    /// # Errors
    /// Recipients could take it for different requests.
    fn request_ends(&self, version: Version, headers: &mut Fields) -> Result<Ends, Fault> {
        let coding = self.coding(version)?;
        if coding.is_some() && self.lengths > 0 {
            return Err(malformed("both content-length and transfer-encoding"));
        }
        if self.list {
            return Err(malformed("content-length is a list"));
        }
        match (coding, self.length(headers)?) {
            (Some(Coding::Chunked), _) => Ok(Ends::Chunked),
            (Some(Coding::Identity), _) => Err(malformed("a transfer-encoding other than chunked")),
            (None, None | Some(0)) => Ok(Ends::AtOnce),
            (None, Some(length)) => Ok(Ends::After(length)),
        }
    }
}

/// Those of a list in a field.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Digits and nothing else.
pub fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
