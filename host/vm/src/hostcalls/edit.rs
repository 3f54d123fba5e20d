//! Changing heads and trailers. Nothing a guest writes can make an invalid head: what is no valid name or value, or
//! would take a mandatory pseudo header away, is left out, and the caller says so.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::abi::numbers::MapType;
use crate::abi::pairs::{MAX_BYTES, MAX_PAIRS};
use crate::fields::{Fields, Known, Refused};
use crate::guest::{Guest, Moment};
use crate::phase::Phase;
use crate::state::{RequestHead, ResponseHead};

/// Why a change was left out.
pub(super) type Ignored = &'static str;

/// Longest header taken from a guest, name and value together, in bytes.
const MAX_HEADER: usize = 64 << 10;

/// What clients that speak HTTP/1.1 call `:authority`.
const HOST: &[u8] = b"host";

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
pub(super) struct Target<'a> {
    map: Map<'a>,
    known: &'a mut Known,
}

enum Map<'a> {
    /// Says whether a pseudo header has been changed.
    Request(&'a mut RequestHead, &'a mut bool),
    Response(&'a mut ResponseHead),
    Fields(&'a mut Fields),
}

impl<'a> Target<'a> {
    /// The map, if it can still be changed.
    pub(super) fn of(guest: &'a mut Guest, kind: MapType) -> Result<Target<'a>, Ignored> {
        let moment = guest.moment;
        if moment == Moment::Finish {
            return Err("the exchange is over");
        }
        if !kind.is_of_exchange() {
            return Err("the map is read-only");
        }
        let key = guest.stream_key();
        let stream = key.and_then(|key| guest.streams.get_mut(key));
        let stream = stream.ok_or("there is no exchange of HTTP")?;
        let map = match kind {
            MapType::RequestHeaders if stream.request_sent => {
                return Err("the request has been sent");
            }
            MapType::RequestHeaders => {
                stream.request_edited = true;
                Map::Request(Arc::make_mut(&mut stream.request), &mut stream.target_edited)
            }
            MapType::ResponseHeaders if stream.response_sent => {
                return Err("the response has been sent");
            }
            MapType::ResponseHeaders => {
                Map::Response(stream.response.as_mut().ok_or("there is no response yet")?)
            }
            MapType::RequestTrailers => {
                trailers(&mut stream.request_trailers, moment, Phase::RequestBody)?
            }
            _ => trailers(&mut stream.response_trailers, moment, Phase::ResponseBody)?,
        };
        Ok(Target { map, known: &mut guest.known })
    }

    /// Adds an entry; pseudo headers have one value and are replaced.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), Ignored> {
        self.write(key, value, |fields, known| {
            check_room(fields, key, value)?;
            fields.append_known(key, value, known).map_err(Refused::reason)
        })
    }

    /// Removes all entries of a name and sets one.
    pub(super) fn replace(&mut self, key: &[u8], value: &[u8]) -> Result<(), Ignored> {
        self.write(key, value, |fields, known| {
            check_room(fields, key, value).or_else(|_| check_room_instead(fields, key, value))?;
            fields.insert_known(key, value, known).map_err(Refused::reason)
        })
    }

    fn write(
        &mut self,
        key: &[u8],
        value: &[u8],
        put: impl FnOnce(&mut Fields, &mut Known) -> Result<(), Ignored>,
    ) -> Result<(), Ignored> {
        let may_be_pseudo = key.first() == Some(&b':') || key.eq_ignore_ascii_case(HOST);
        if may_be_pseudo && self.map.set_pseudo(key, value)? {
            return Ok(());
        }
        check_length(key, value)?;
        put(self.map.fields(), self.known)
    }

    /// Removes all entries of a name.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), Ignored> {
        let host = matches!(self.map, Map::Request(..)) && key.eq_ignore_ascii_case(HOST);
        if key.starts_with(b":") || host {
            return Err("a mandatory header cannot be removed");
        }
        self.map.fields().remove(key);
        Ok(())
    }

    /// Replaces everything; pseudo headers that `pairs` lacks keep their value. Says what it left out last.
    pub(super) fn set(&mut self, pairs: &[(&[u8], &[u8])]) -> Result<(), Ignored> {
        self.map.fields().clear();
        let mut result = Ok(());
        for (key, value) in pairs {
            result = self.add(key, value).and(result);
        }
        result
    }
}

impl Map<'_> {
    fn fields(&mut self) -> &mut Fields {
        match self {
            Map::Request(head, _) => &mut head.headers,
            Map::Response(head) => &mut head.headers,
            Map::Fields(fields) => fields,
        }
    }

    /// Whether `key` names a field of the head, which is then set.
    fn set_pseudo(&mut self, key: &[u8], value: &[u8]) -> Result<bool, Ignored> {
        match self {
            Map::Request(head, edited) => {
                let set = set_request_pseudo(head, key, value)?;
                **edited |= set;
                Ok(set)
            }
            Map::Response(head) if key == b":status" => {
                head.status = status(value).ok_or(":status is no number from 100 to 599")?;
                Ok(true)
            }
            Map::Response(_) | Map::Fields(_) => Ok(false),
        }
    }
}

/// A status that HTTP allows.
pub(super) fn status(value: &[u8]) -> Option<StatusCode> {
    StatusCode::from_bytes(value).ok().filter(|status| status.as_u16() < 600)
}

/// The fields of a message that the host builds from what a guest wrote: without pseudo headers, framing and what is
/// invalid. Also says what was left out last.
pub(super) fn message_fields(pairs: &[(&[u8], &[u8])]) -> (Fields, Result<(), Ignored>) {
    let bytes = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    let mut fields = Fields::with_capacity(pairs.len(), bytes);
    let mut result = Ok(());
    for (key, value) in pairs {
        let framing = FRAMING.iter().any(|name| key.eq_ignore_ascii_case(name.as_bytes()));
        if key.starts_with(b":") || framing {
            continue;
        }
        let fits = check_length(key, value);
        let added = fits.and_then(|()| fields.append(key, value).map_err(Refused::reason));
        result = added.and(result);
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
        _ if key.eq_ignore_ascii_case(HOST) => &mut head.authority,
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

fn check_length(key: &[u8], value: &[u8]) -> Result<(), Ignored> {
    match key.len().saturating_add(value.len()) <= MAX_HEADER {
        true => Ok(()),
        false => Err("the header is too long"),
    }
}

/// No map grows longer than one that a guest could hand over in one piece.
fn check_room(fields: &Fields, key: &[u8], value: &[u8]) -> Result<(), Ignored> {
    check_total(fields.len() + 1, fields.bytes() + key.len() + value.len())
}

/// The same once all entries of this name are gone.
#[cold]
fn check_room_instead(fields: &Fields, key: &[u8], value: &[u8]) -> Result<(), Ignored> {
    let (mut count, mut bytes) = (fields.len() + 1, fields.bytes() + key.len() + value.len());
    for old in fields.get_all(key) {
        count -= 1;
        bytes -= key.len() + old.len();
    }
    check_total(count, bytes)
}

fn check_total(count: usize, bytes: usize) -> Result<(), Ignored> {
    match count <= MAX_PAIRS && bytes <= MAX_BYTES {
        true => Ok(()),
        false => Err(Refused::Full.reason()),
    }
}

/// Trailers come into being when a guest adds one in the last body callback.
fn trailers(
    slot: &mut Option<Box<Fields>>,
    moment: Moment,
    body: Phase,
) -> Result<Map<'_>, Ignored> {
    if slot.is_none() && moment != (Moment::Stream { phase: body, end_of_stream: true }) {
        return Err("there are no trailers");
    }
    Ok(Map::Fields(slot.get_or_insert_default()))
}
