//! The head of an answer to a client, as lines: what frames its body, and what the client learns of the connection.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use portcullis_vm::{Fields, ResponseHead};

use super::head::{elements, number};
use super::{Framing, announced, write_field};
use crate::body::Body;
use crate::message::Request;
use crate::now::{now, wall};

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
    length: Option<&'a [u8]>,
    connection: Option<&'a [u8]>,
    close: bool,
    date: bool,
}

impl Asked {
    pub(super) fn by(request: &Request<()>) -> Asked {
        Asked { version: request.version, to_head: request.method == Method::HEAD, keeps: true }
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
        head: &ResponseHead,
        body: &Body,
    ) -> Result<Framing, String> {
        let status = head.status;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
        let said = self.fields(out, &head.headers);
        let framing = self.framing(out, head, said.length, body)?;
        self.keeps &= !said.close && !matches!(framing, Framing::ToTheEnd);
        let old = self.version == Version::HTTP_10;
        if let Some(connection) = said.connection.filter(|_| status == SWITCHING) {
            write_field(out, CONNECTION, connection);
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
    fn fields<'a>(&self, out: &mut Vec<u8>, headers: &'a Fields) -> Said<'a> {
        let mut said = Said::default();
        for (name, value, line) in headers.lines() {
            if name == CONTENT_LENGTH.as_str().as_bytes() {
                said.length = Some(value);
            } else if name == CONNECTION.as_str().as_bytes() {
                said.close |= elements(value).any(|one| one.eq_ignore_ascii_case(b"close"));
                said.connection = Some(value);
            } else if name != TRANSFER_ENCODING.as_str().as_bytes() {
                said.date |= name == DATE.as_str().as_bytes();
                out.extend_from_slice(line);
            }
        }
        said
    }

    /// RFC 9112, 6, and RFC 9110, 8.6.
    fn framing(
        &self,
        out: &mut Vec<u8>,
        head: &ResponseHead,
        said: Option<&[u8]>,
        body: &Body,
    ) -> Result<Framing, String> {
        let ResponseHead { status, headers } = head;
        if status.is_informational() || *status == StatusCode::NO_CONTENT {
            return Ok(Framing::Length(0));
        }
        if self.to_head || *status == StatusCode::NOT_MODIFIED {
            // It is that of a body which does not follow.
            said.into_iter().for_each(|said| write_field(out, CONTENT_LENGTH, said));
            return Ok(Framing::Length(0));
        }
        let (length, said) = match (body, said) {
            (Body::Full(bytes), _) => (bytes.len() as u64, None),
            (_, Some(said)) => {
                let length = number(said).ok_or_else(|| {
                    let said = String::from_utf8_lossy(said);
                    format!("content-length {said:?} is no number")
                })?;
                (length, Some(said))
            }
            (Body::Empty, None) => (0, None),
            (Body::Stream(_), None) => return Ok(self.endless(out, headers)),
        };
        match said {
            Some(said) => write_field(out, CONTENT_LENGTH, said),
            None => write_field(out, CONTENT_LENGTH, length.to_string()),
        }
        Ok(Framing::Length(length))
    }

    fn endless(&self, out: &mut Vec<u8>, headers: &Fields) -> Framing {
        if self.version == Version::HTTP_10 {
            return Framing::ToTheEnd;
        }
        write_field(out, TRANSFER_ENCODING, "chunked");
        Framing::Chunked(announced(headers))
    }
}

/// Written anew once in a second.
fn write_date(out: &mut Vec<u8>) {
    let since = wall(now()).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
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
