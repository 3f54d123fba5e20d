//! What the head of a message says: its fields, where its body ends, and whether the connection goes on.

use std::fmt;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode, Uri, Version};
use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};
use portcullis_vm::{Fields, ResponseHead};

use crate::message::{self, Request, is_plain_path};

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

/// The head of a response at the beginning of `bytes`, and how long it is; nothing while it is incomplete.
pub(super) fn response(bytes: &[u8]) -> Result<Option<(Answer, usize)>, Fault> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut head, bytes, &mut fields);
    let length =
        match parsed.map_err(|problem| malformed(format!("the answer is no HTTP: {problem}")))? {
            Status::Complete(length) => length,
            Status::Partial => return Ok(None),
        };
    let (headers, said) = collect(&bytes[..length], head.headers)?;
    let code = head.code.unwrap_or_default();
    let status = StatusCode::from_u16(code)
        .map_err(|_| malformed(format!("the answer has the status {code}, which is none")))?;
    let version = version(head.version);
    Ok(Some((Answer { head: ResponseHead { status, headers }, version, said }, length)))
}

/// The head of a request at the beginning of `bytes`, and how long it is; nothing while it is incomplete.
pub(super) fn request(bytes: &[u8]) -> Result<Option<(Request<Said>, usize)>, Fault> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let length = match head.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::TooLarge),
        Err(problem) => return Err(malformed(format!("the request is no HTTP: {problem}"))),
    };
    let target = head.path.unwrap_or_default().as_bytes();
    if target.len() > MAX_TARGET {
        return Err(Fault::TargetTooLong);
    }
    let (headers, said) = collect(&bytes[..length], head.headers)?;
    let method = Method::from_bytes(head.method.unwrap_or_default().as_bytes())
        .map_err(|_| malformed("the request's method is none"))?;
    let (authority, path) = split(target)?;
    let version = version(head.version);
    Ok(Some((Request { method, authority, path, version, headers, body: said }, length)))
}

/// Authority and path of a target.
fn split(target: &[u8]) -> Result<(Option<Bytes>, Bytes), Fault> {
    if is_plain_path(target) {
        return Ok((None, Bytes::copy_from_slice(target)));
    }
    let none = |problem| malformed(format!("the request's target is none: {problem}"));
    Ok(message::target(&Uri::try_from(target).map_err(none)?))
}

const fn version(minor: Option<u8>) -> Version {
    match minor {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    }
}

/// The trailers at the beginning of `bytes`, up to the empty line, and how long they are; nothing while they are incomplete.
pub(super) fn trailers(bytes: &[u8]) -> Result<Option<(Fields, usize)>, Fault> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(Status::Complete((length, fields))) => {
            Ok(Some((collect(&bytes[..length], fields)?.0, length)))
        }
        Ok(Status::Partial) => Ok(None),
        Err(problem) => Err(malformed(format!("the trailers are no HTTP: {problem}"))),
    }
}

/// What has been said with its note is left out. httparse takes what RFC 9110 calls a name and a value, and nothing else.
fn collect(head: &[u8], fields: &[Header<'_>]) -> Result<(Fields, Said), Fault> {
    let (mut headers, mut said) = (Fields::of_head(head, fields.len()), Said::default());
    for Header { name, value } in fields {
        if said.note(name.as_bytes(), value) == Noted::InPart {
            headers.take(head, name.as_bytes(), value).map_err(|_| Fault::TooLarge)?;
        }
    }
    Ok((headers, said))
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
pub(super) struct Said {
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
    fn note(&mut self, name: &[u8], value: &[u8]) -> Noted {
        // By their lengths first, which few others have.
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => return self.note_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.list |= value.contains(&b',');
                elements(value).for_each(|length| self.note_length(number(length)));
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
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
    pub(super) fn keeps_open(&self, version: Version) -> bool {
        !self.close && (self.keep_alive || version != Version::HTTP_10)
    }

    /// Where the body of a request ends (RFC 9112, 6.3), which its fields say in one way afterwards.
    ///
    /// # Errors
    /// Recipients could take it for different requests.
    pub(super) fn request_ends(
        &self,
        version: Version,
        headers: &mut Fields,
    ) -> Result<Ends, Fault> {
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
