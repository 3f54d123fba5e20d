//! The head of an answer to a client, as lines: what frames its body, and what the client learns of the connection.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderValue, TRAILER, TRANSFER_ENCODING,
};
use http::response::Parts;
use http::{Method, Request, StatusCode, Version};

use super::head::{elements, number};
use super::{Framing, write_field};
use crate::body::Body;

const SWITCHING: StatusCode = StatusCode::SWITCHING_PROTOCOLS;

/// Bytes of a date (RFC 9110, 5.6.7).
const DATE_LENGTH: usize = 29;

thread_local! {
    /// Seconds after 1970, and how they are written.
    static NOW: Cell<(u64, [u8; DATE_LENGTH])> = const { Cell::new((0, [0; DATE_LENGTH])) };
}

/// What an answer has to know of its request.
#[derive(Debug)]
pub struct Asked {
    version: Version,
    to_head: bool,
    /// The connection goes on after the answer.
    keeps: bool,
}

impl Default for Asked {
    /// Of something that was no request.
    fn default() -> Asked {
        Asked { version: Version::HTTP_11, to_head: false, keeps: false }
    }
}

/// What the fields of a response say of its connection and body.
#[derive(Default)]
struct Said<'a> {
    length: Option<&'a HeaderValue>,
    connection: Option<&'a HeaderValue>,
    close: bool,
    date: bool,
}

impl Asked {
    pub(super) fn by(request: &Request<()>) -> Asked {
        let version = request.version();
        Asked { version, to_head: request.method() == Method::HEAD, keeps: true }
    }

    pub(super) fn close(&mut self) {
        self.keeps = false;
    }

    pub(super) fn goes_on(&self) -> bool {
        self.keeps
    }

    /// Writes the head, and says how the body is to follow. HTTP/1.0 clients are told our version, too (RFC 9110, 6.2).
    ///
    /// # Errors
    /// `content-length` is no number.
    pub(super) fn answer(
        &mut self,
        out: &mut Vec<u8>,
        parts: &Parts,
        body: &Body,
    ) -> Result<Framing, String> {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(parts.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
        let said = self.fields(out, &parts.headers);
        let framing = self.framing(out, parts, said.length, body)?;
        self.keeps &= !said.close && !matches!(framing, Framing::ToTheEnd);
        let old = self.version == Version::HTTP_10;
        if let Some(connection) = said.connection.filter(|_| parts.status == SWITCHING) {
            write_field(out, &CONNECTION, connection);
        } else if !self.keeps && !old {
            out.extend_from_slice(b"connection: close\r\n");
        } else if self.keeps && old {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        if !said.date {
            write_date(out);
        }
        out.extend_from_slice(b"\r\n");
        Ok(framing)
    }

    /// Writes all fields but those that depend on the connection.
    fn fields<'a>(&self, out: &mut Vec<u8>, headers: &'a HeaderMap) -> Said<'a> {
        let mut said = Said::default();
        for (name, value) in headers {
            if *name == CONTENT_LENGTH {
                said.length = Some(value);
            } else if *name == CONNECTION {
                said.close |=
                    elements(value.as_bytes()).any(|one| one.eq_ignore_ascii_case(b"close"));
                said.connection = Some(value);
            } else if *name != TRANSFER_ENCODING {
                said.date |= *name == DATE;
                write_field(out, name, value);
            }
        }
        said
    }

    /// RFC 9112, 6, and RFC 9110, 8.6.
    fn framing(
        &self,
        out: &mut Vec<u8>,
        parts: &Parts,
        said: Option<&HeaderValue>,
        body: &Body,
    ) -> Result<Framing, String> {
        let Parts { status, headers, .. } = parts;
        if status.is_informational() || *status == StatusCode::NO_CONTENT {
            return Ok(Framing::Length(0));
        }
        if self.to_head || *status == StatusCode::NOT_MODIFIED {
            // It is that of a body which does not follow.
            said.into_iter().for_each(|said| write_field(out, &CONTENT_LENGTH, said));
            return Ok(Framing::Length(0));
        }
        let (length, said) = match (body, said) {
            (Body::Full(bytes), _) => (bytes.len() as u64, None),
            (_, Some(said)) => {
                let length = number(said.as_bytes())
                    .ok_or_else(|| format!("content-length {said:?} is no number"))?;
                (length, Some(said))
            }
            (Body::Empty, None) => (0, None),
            (Body::Stream(_), None) => return Ok(self.endless(out, headers)),
        };
        match said {
            Some(said) => write_field(out, &CONTENT_LENGTH, said),
            None => write_field(out, &CONTENT_LENGTH, &HeaderValue::from(length)),
        }
        Ok(Framing::Length(length))
    }

    fn endless(&self, out: &mut Vec<u8>, headers: &HeaderMap) -> Framing {
        if self.version == Version::HTTP_10 {
            return Framing::ToTheEnd;
        }
        write_field(out, &TRANSFER_ENCODING, &HeaderValue::from_static("chunked"));
        Framing::Chunked(headers.get_all(TRAILER).iter().cloned().collect())
    }
}

/// Written anew once in a second.
fn write_date(out: &mut Vec<u8>) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (second, mut text) = NOW.get();
    if second != since {
        let now = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(since));
        if now.len() != DATE_LENGTH {
            return;
        }
        text.copy_from_slice(now.as_bytes());
        NOW.set((since, text));
    }
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(&text);
    out.extend_from_slice(b"\r\n");
}
