//! Changing heads and trailers. Nothing a guest writes can make an invalid head: what is no valid name or value, or
//! would take a mandatory pseudo header away, is left out, and the caller says so.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderName};
use http::{Method, StatusCode};

use crate::abi::numbers::MapType;
use crate::abi::pairs::{MAX_BYTES, MAX_PAIRS};
use crate::guest::{Guest, Moment, Names};
use crate::phase::Phase;
use crate::state::{RequestHead, ResponseHead};

/// Why a change was left out.
pub(super) type Ignored = &'static str;

/// What a guest's bytes are as a name.
type Parsed = Result<HeaderName, InvalidHeaderName>;

/// Longest header taken from a guest, name and value together, in bytes.
const MAX_HEADER: usize = 64 << 10;

/// Names that are about framing or the connection; a message that the host builds has its own.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// A map that a guest may change.
pub(super) enum Target<'a> {
    Request(&'a mut RequestHead),
    Response(&'a mut ResponseHead),
    Fields(&'a mut HeaderMap),
}

impl<'a> Target<'a> {
    /// The map, if it can still be changed.
    pub(super) fn of(guest: &'a mut Guest, map: MapType) -> Result<Target<'a>, Ignored> {
        let moment = guest.moment;
        if moment == Moment::Finish {
            return Err("the exchange is over");
        }
        let of_callout = [
            MapType::InitialMetadata,
            MapType::TrailingMetadata,
            MapType::CallHeaders,
            MapType::CallTrailers,
        ];
        if of_callout.contains(&map) {
            return Err("the map is read-only");
        }
        let stream = guest.http_mut().ok_or("there is no exchange of HTTP")?;
        match map {
            MapType::RequestHeaders if stream.request_sent => Err("the request has been sent"),
            MapType::RequestHeaders => {
                stream.request_edited = true;
                Ok(Target::Request(Arc::make_mut(&mut stream.request)))
            }
            MapType::ResponseHeaders if stream.response_sent => Err("the response has been sent"),
            MapType::ResponseHeaders => {
                stream.response.as_mut().map(Target::Response).ok_or("there is no response yet")
            }
            MapType::RequestTrailers => {
                trailers(&mut stream.request_trailers, moment, Phase::RequestBody)
            }
            _ => trailers(&mut stream.response_trailers, moment, Phase::ResponseBody),
        }
    }

    /// Adds an entry; pseudo headers have one value and are replaced.
    pub(super) fn add(
        &mut self,
        names: &mut Names,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Ignored> {
        if self.set_pseudo(key, value)? {
            return Ok(());
        }
        append(self.fields(), names.of(key), value)
    }

    /// Removes all entries of a name and sets one.
    pub(super) fn replace(
        &mut self,
        names: &mut Names,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Ignored> {
        if self.set_pseudo(key, value)? {
            return Ok(());
        }
        let (name, value) = entry(names.of(key), value)?;
        let fields = self.fields();
        make_room(fields.iter().filter(|(known, _)| **known != name), &name, &value)?;
        fields.try_insert(name, value).map_err(|_| "there are too many headers")?;
        Ok(())
    }

    /// Removes all entries of a name.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), Ignored> {
        let host = matches!(self, Target::Request(_)) && key.eq_ignore_ascii_case(b"host");
        if key.starts_with(b":") || host {
            return Err("a mandatory header cannot be removed");
        }
        if let Ok(name) = std::str::from_utf8(key) {
            self.fields().remove(name);
        }
        Ok(())
    }

    /// Replaces everything; pseudo headers that `pairs` lacks keep their value. Says what it left out last.
    pub(super) fn set(
        &mut self,
        names: &mut Names,
        pairs: &[(&[u8], &[u8])],
    ) -> Result<(), Ignored> {
        self.fields().clear();
        let mut result = Ok(());
        for (key, value) in pairs {
            result = self.add(names, key, value).and(result);
        }
        result
    }

    fn fields(&mut self) -> &mut HeaderMap {
        match self {
            Target::Request(head) => &mut head.headers,
            Target::Response(head) => &mut head.headers,
            Target::Fields(fields) => fields,
        }
    }

    /// Whether `key` names a field of the head, which is then set.
    fn set_pseudo(&mut self, key: &[u8], value: &[u8]) -> Result<bool, Ignored> {
        match self {
            Target::Request(head) => set_request_pseudo(head, key, value),
            Target::Response(head) if key == b":status" => {
                head.status = status(value).ok_or(":status is no number from 100 to 599")?;
                Ok(true)
            }
            Target::Response(_) | Target::Fields(_) => Ok(false),
        }
    }
}

/// A status that HTTP allows.
pub(super) fn status(value: &[u8]) -> Option<StatusCode> {
    StatusCode::from_bytes(value).ok().filter(|status| status.as_u16() < 600)
}

/// The fields of a message that the host builds from what a guest wrote: without pseudo headers, framing and what is
/// invalid. Also says what was left out last.
pub(super) fn message_fields(pairs: &[(&[u8], &[u8])]) -> (HeaderMap, Result<(), Ignored>) {
    let mut fields = HeaderMap::new();
    let mut result = Ok(());
    for (key, value) in pairs {
        let framing = FRAMING.iter().any(|name| key.eq_ignore_ascii_case(name.as_bytes()));
        if key.starts_with(b":") || framing {
            continue;
        }
        result = append(&mut fields, HeaderName::from_bytes(key), value).and(result);
    }
    (fields, result)
}

/// Whether `value` can stand in a request line or an authority.
pub(super) fn is_target(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

fn set_request_pseudo(head: &mut RequestHead, key: &[u8], value: &[u8]) -> Result<bool, Ignored> {
    let field = match key {
        b":method" => {
            head.method = Method::from_bytes(value).map_err(|_| ":method is invalid")?;
            return Ok(true);
        }
        b":path" if value.is_empty() => return Err(":path is empty"),
        b":path" => &mut head.path,
        b":scheme" => &mut head.scheme,
        b":authority" => &mut head.authority,
        _ if key.eq_ignore_ascii_case(b"host") => &mut head.authority,
        _ => return Ok(false),
    };
    if value.len() > MAX_HEADER {
        return Err("a pseudo header is too long");
    }
    if !is_target(value) {
        return Err("a pseudo header holds a space or a control character");
    }
    *field = Bytes::copy_from_slice(value);
    Ok(true)
}

fn append(fields: &mut HeaderMap, name: Parsed, value: &[u8]) -> Result<(), Ignored> {
    let (name, value) = entry(name, value)?;
    make_room(fields.iter(), &name, &value)?;
    fields.try_append(name, value).map_err(|_| "there are too many headers")?;
    Ok(())
}

/// A map grows no longer than one that a guest could hand over in one piece.
fn make_room<'a>(
    others: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    name: &HeaderName,
    value: &HeaderValue,
) -> Result<(), Ignored> {
    let (mut count, mut bytes) = (1, name.as_str().len() + value.len());
    for (name, value) in others {
        count += 1;
        bytes += name.as_str().len() + value.len();
    }
    match count <= MAX_PAIRS && bytes <= MAX_BYTES {
        true => Ok(()),
        false => Err("there are too many headers"),
    }
}

fn entry(name: Parsed, value: &[u8]) -> Result<(HeaderName, HeaderValue), Ignored> {
    let name = name.map_err(|_| "the header name is invalid")?;
    if name.as_str().len().saturating_add(value.len()) > MAX_HEADER {
        return Err("the header is too long");
    }
    let value = HeaderValue::from_bytes(value).map_err(|_| "the header value is invalid")?;
    Ok((name, value))
}

/// Trailers come into being when a guest adds one in the last body callback.
fn trailers(
    slot: &mut Option<HeaderMap>,
    moment: Moment,
    body: Phase,
) -> Result<Target<'_>, Ignored> {
    if slot.is_none() && moment != (Moment::Stream { phase: body, end_of_stream: true }) {
        return Err("there are no trailers");
    }
    Ok(Target::Fields(slot.get_or_insert_default()))
}
