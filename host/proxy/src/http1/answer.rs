//! The head of an answer to a client, as lines: what frames its body, and what the client learns of the connection.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use portcullis_vm::{Names, ResponseHead};

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

/// What stands in a head for the length of its body.
enum Length<'a> {
    /// What the fields say.
    Said(&'a [u8]),
    Counted(u64),
    /// Nothing, or that there are chunks.
    Unknown,
}

/// Fields that depend on the connection.
const HOP: Names = Names::new(&["connection", "transfer-encoding"]);
const HOP_AND_LENGTH: Names = Names::new(&["connection", "transfer-encoding", "content-length"]);

impl Asked {
    pub(super) fn by(request: &Request) -> Asked {
        let to_head = request.head.method == Method::HEAD;
        Asked { version: request.version, to_head, keeps: true }
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
        let headers = &head.headers;
        let mut lengths = headers.get_all(&CONTENT_LENGTH);
        let (said, is_only) = (lengths.next(), lengths.next().is_none());
        let (framing, length) = self.framing(head, said, body)?;
        match length {
            Length::Said(_) if is_only => headers.write_lines(out, &HOP),
            _ => headers.write_lines(out, &HOP_AND_LENGTH),
        }
        match (&framing, length) {
            (Framing::Chunked(_), _) => write_field(out, TRANSFER_ENCODING, "chunked"),
            (_, Length::Said(_)) if is_only => {}
            (_, Length::Said(said)) => write_field(out, CONTENT_LENGTH, said),
            (_, Length::Counted(length)) => write_field(out, CONTENT_LENGTH, length.to_string()),
            (_, Length::Unknown) => {}
        }
        self.connection(out, head, matches!(framing, Framing::ToTheEnd));
        if !headers.contains(DATE) {
            write_date(out);
        }
        out.extend_from_slice(b"\r\n");
        Ok(framing)
    }

    /// Writes what becomes of the connection.
    fn connection(&mut self, out: &mut Vec<u8>, head: &ResponseHead, ends: bool) {
        let mut options = head.headers.get_all(&CONNECTION).flat_map(elements);
        self.keeps &= !ends && !options.any(|one| one.eq_ignore_ascii_case(b"close"));
        let old = self.version == Version::HTTP_10;
        match head.headers.get(CONNECTION) {
            Some(said) if head.status == SWITCHING => write_field(out, CONNECTION, said),
            _ if !self.keeps && !old => out.extend_from_slice(b"connection: close\r\n"),
            _ if self.keeps && old => out.extend_from_slice(b"connection: keep-alive\r\n"),
            _ => {}
        }
    }

    /// RFC 9112, 6, and RFC 9110, 8.6.
    fn framing<'a>(
        &self,
        head: &ResponseHead,
        said: Option<&'a [u8]>,
        body: &Body,
    ) -> Result<(Framing, Length<'a>), String> {
        let status = head.status;
        if status.is_informational() || status == StatusCode::NO_CONTENT {
            return Ok((Framing::Length(0), Length::Unknown));
        }
        if self.to_head || status == StatusCode::NOT_MODIFIED {
            // It is that of a body which does not follow.
            return Ok((Framing::Length(0), said.map_or(Length::Unknown, Length::Said)));
        }
        let counted = match body {
            Body::Full(bytes) => bytes.len() as u64,
            Body::Empty if said.is_none() => 0,
            Body::Stream(_) if said.is_none() => {
                let framing = match self.version {
                    Version::HTTP_10 => Framing::ToTheEnd,
                    _ => Framing::Chunked(announced(&head.headers)),
                };
                return Ok((framing, Length::Unknown));
            }
            Body::Empty | Body::Stream(_) => {
                let said = said.unwrap_or_default();
                let length = number(said).ok_or_else(|| {
                    let said = String::from_utf8_lossy(said);
                    format!("content-length {said:?} is no number")
                })?;
                return Ok((Framing::Length(length), Length::Said(said)));
            }
        };
        let is_counted = |said: &&[u8]| number(said) == Some(counted) && !said.starts_with(b"00");
        let said = said.filter(is_counted);
        Ok((Framing::Length(counted), said.map_or(Length::Counted(counted), Length::Said)))
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
