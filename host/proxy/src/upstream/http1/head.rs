//! What the head of an answer says: its fields, where its body ends, and whether the connection goes on.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::{Response, StatusCode, Version};
use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};

/// Fields of a head, and of trailers; as in hyper.
const MAX_FIELDS: usize = 100;

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

/// The head at the beginning of `bytes`, and how long it is; nothing while it is incomplete.
pub(super) fn parse(bytes: &Bytes) -> Result<Option<(Response<()>, usize)>, String> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut head, bytes, &mut fields);
    let length = match parsed.map_err(|problem| format!("the answer is no HTTP: {problem}"))? {
        Status::Complete(length) => length,
        Status::Partial => return Ok(None),
    };
    let mut response = Response::new(());
    let code = head.code.unwrap_or_default();
    *response.status_mut() = StatusCode::from_u16(code)
        .map_err(|_| format!("the answer has the status {code}, which is none"))?;
    *response.version_mut() = match head.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    *response.headers_mut() = collect(bytes, head.headers)?;
    Ok(Some((response, length)))
}

/// The trailers at the beginning of `bytes`, up to the empty line, and how long they are; nothing while they are incomplete.
pub(super) fn parse_trailers(bytes: &Bytes) -> Result<Option<(HeaderMap, usize)>, String> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(Status::Complete((length, fields))) => Ok(Some((collect(bytes, fields)?, length))),
        Ok(Status::Partial) => Ok(None),
        Err(problem) => Err(format!("the answer's trailers are no HTTP: {problem}")),
    }
}

/// Values stay where they were read.
fn collect(bytes: &Bytes, fields: &[Header<'_>]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(format!("the answer's field {:?} is no HTTP", field.name));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

/// Where the body of an answer ends (RFC 9112, 6.3), which its fields say in one way afterwards.
///
/// # Errors
/// They contradict each other, or name a coding that was not asked for.
pub(super) fn ends(response: &mut Response<()>, to_head: bool) -> Result<Ends, String> {
    let status = response.status();
    let version = response.version();
    let headers = response.headers_mut();
    let chunked = is_chunked(headers, version)?;
    if chunked.is_some() {
        // It would say something else to whoever gets the answer next.
        headers.remove(CONTENT_LENGTH);
    }
    let length = length(headers)?;
    let bodyless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if to_head || bodyless || status.is_informational() {
        return Ok(Ends::AtOnce);
    }
    Ok(match (chunked, length) {
        (Some(true), _) => Ends::Chunked,
        (None, Some(0)) => Ends::AtOnce,
        (None, Some(length)) => Ends::After(length),
        (Some(false), _) | (None, None) => Ends::WithConnection,
    })
}

/// `None`: there is no transfer coding; false: one that is none.
fn is_chunked(headers: &HeaderMap, version: Version) -> Result<Option<bool>, String> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(None) };
    let coding = coding.as_bytes().trim_ascii();
    let chunked = coding.eq_ignore_ascii_case(b"chunked");
    let known = chunked || coding.eq_ignore_ascii_case(b"identity");
    if codings.next().is_some() || !known {
        return Err("the answer has a transfer-encoding other than chunked".to_owned());
    }
    if version == Version::HTTP_10 {
        return Err("the answer has a transfer-encoding, which HTTP/1.0 does not know".to_owned());
    }
    Ok(Some(chunked))
}

/// What `content-length` says; said several times, it is left once.
fn length(headers: &mut HeaderMap) -> Result<Option<u64>, String> {
    let mut found = None;
    let mut times = 0;
    for value in headers.get_all(CONTENT_LENGTH) {
        for value in value.as_bytes().split(|byte| *byte == b',') {
            times += 1;
            let length = number(value.trim_ascii());
            if length.is_none() || times > 1 && found != length {
                return Err("the answer's content-length is not one number".to_owned());
            }
            found = length;
        }
    }
    if let Some(length) = found.filter(|_| times > 1) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(found)
}

/// Digits and nothing else.
pub(in crate::upstream) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether the connection may carry another exchange (RFC 9112, 9.3).
pub(super) fn keeps_open(response: &Response<()>) -> bool {
    let says = |option: &[u8]| {
        response.headers().get_all(CONNECTION).iter().any(|value| {
            let options = value.as_bytes().split(|byte| *byte == b',');
            options.map(<[u8]>::trim_ascii).any(|one| one.eq_ignore_ascii_case(option))
        })
    };
    match response.version() {
        Version::HTTP_10 => says(b"keep-alive") && !says(b"close"),
        _ => !says(b"close"),
    }
}
