//! `request.*` and `response.*`: from the heads and trailers of an exchange, and what is counted of it.

use std::collections::HashMap;
use std::str::FromStr;

use bytes::Bytes;
use http::StatusCode;

use super::found::{Found, int, no_entries, text, value};
use crate::abi::numbers::MapType;
use crate::attributes::{Attribute, Attributes};
use crate::fields::Fields;
use crate::hostcalls::head::{Part, Place, View};
use crate::state::{HttpStream, RequestHead, ResponseHead};

pub(super) fn request(stream: &HttpStream, path: &[&str]) -> Option<Found> {
    let (head, known) = (&stream.request, &stream.attributes);
    let part = |place| Some(Found::Part(Part(MapType::RequestHeaders, place)));
    let header = |name: &str| part(Place::Field(head.headers.position(name.as_bytes())?));
    match path {
        ["path"] => part(Place::Path),
        ["url_path"] => Some(Found::Bytes(split_path(head).0)),
        ["query"] => Some(Found::Bytes(split_path(head).1)),
        ["host"] => part(Place::Authority),
        ["scheme"] => part(Place::Scheme),
        ["method"] => part(Place::Method),
        ["referer"] => header("referer"),
        ["useragent"] => header("user-agent"),
        ["id"] => header("x-request-id"),
        ["protocol"] => Some(Found::Static(known.protocol)),
        ["size"] => int(content_length(&head.headers).unwrap_or(known.request_bytes) as i64),
        ["headers_bytes"] => int(View::Request(head).bytes() as i64),
        ["total_size"] => {
            int((View::Request(head).bytes() as u64).saturating_add(known.request_bytes) as i64)
        }
        ["headers"] => map(&View::Request(head)),
        ["headers", name] => joined(MapType::RequestHeaders, &View::Request(head), name),
        ["trailers"] => map(&View::Fields(stream.request_trailers.as_deref()?)),
        ["trailers", name] => {
            let trailers = stream.request_trailers.as_deref()?;
            joined(MapType::RequestTrailers, &View::Fields(trailers), name)
        }
        ["time" | "duration"] => received(known, path),
        _ => None,
    }
}

pub(super) fn response(stream: &HttpStream, path: &[&str]) -> Option<Found> {
    let (head, trailers) = (stream.response.as_ref(), stream.response_trailers.as_deref());
    let view = head.map(View::Response);
    let sizes = || {
        let trailers = trailers.map_or(0, |trailers| View::Fields(trailers).bytes());
        (view.as_ref().map_or(0, View::bytes) + trailers) as u64
    };
    match path {
        ["code"] => int(head?.status.as_u16().into()),
        ["grpc_status"] => int(grpc_status(head?, trailers)),
        ["headers"] => view.as_ref().map_or_else(no_entries, map),
        ["headers", name] => joined(MapType::ResponseHeaders, view.as_ref()?, name),
        ["trailers"] => trailers.map(View::Fields).as_ref().map_or_else(no_entries, map),
        ["trailers", name] => joined(MapType::ResponseTrailers, &View::Fields(trailers?), name),
        ["headers_bytes"] => int(view?.bytes() as i64),
        ["total_size"] => int(sizes().saturating_add(stream.attributes.response_bytes) as i64),
        _ => sent(&stream.attributes, path),
    }
}

/// What of `request` a connection without HTTP has, as in Envoy.
pub(super) fn received(known: &Attributes, path: &[&str]) -> Option<Found> {
    match path {
        ["time"] => value(Attribute::Timestamp(known.started)),
        ["duration"] => value(Attribute::Duration(known.duration?)),
        ["size"] | ["total_size"] => int(known.request_bytes as i64),
        _ => None,
    }
}

/// What of `response` a connection without HTTP has, as in Envoy.
pub(super) fn sent(known: &Attributes, path: &[&str]) -> Option<Found> {
    match path {
        ["code_details"] => text(known.code_details.as_deref()?),
        ["flags"] => int(known.response_flags as i64),
        ["size"] | ["total_size"] => int(known.response_bytes as i64),
        ["backend_latency"] => value(Attribute::Duration(known.backend_latency?)),
        _ => None,
    }
}

/// What the response says, otherwise what its HTTP status means in gRPC, as in Envoy: also for what is no gRPC.
fn grpc_status(head: &ResponseHead, trailers: Option<&Fields>) -> i64 {
    let status = |fields: &Fields| number::<i64>(fields.get("grpc-status")?.trim_ascii());
    let said = trailers.and_then(status).or_else(|| status(&head.headers));
    said.unwrap_or(match head.status {
        StatusCode::BAD_REQUEST => 13,
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::NOT_FOUND => 12,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => 14,
        _ => 2,
    })
}

/// Path without query, and query without fragment.
fn split_path(head: &RequestHead) -> (Bytes, Bytes) {
    let Some(at) = head.path.iter().position(|byte| *byte == b'?') else {
        return (head.path.clone(), Bytes::new());
    };
    let query = head.path.slice(at + 1..);
    let end = query.iter().position(|byte| *byte == b'#').unwrap_or(query.len());
    (head.path.slice(..at), query.slice(..end))
}

fn content_length(headers: &Fields) -> Option<u64> {
    number(headers.get("content-length")?)
}

fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Names in lower case; the values of a repeated name joined by commas, where the first one stands.
fn map(view: &View<'_>) -> Option<Found> {
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(view.len());
    view.each_pseudo(&mut |key, value| entries.push((key.to_vec(), value.to_vec())));
    let mut places = HashMap::new();
    for (name, value) in view.fields().iter() {
        let place = *places.entry(name).or_insert(entries.len());
        match entries.get_mut(place) {
            Some((_, values)) => {
                values.push(b',');
                values.extend_from_slice(value);
            }
            None => entries.push((name.to_vec(), value.to_vec())),
        }
    }
    value(Attribute::Map(entries))
}

fn joined(kind: MapType, view: &View<'_>, name: &str) -> Option<Found> {
    let place = view.find(name.as_bytes())?;
    let mut values = view.fields().get_all(name);
    let (Some(first), Some(second)) = (values.next(), values.next()) else {
        return Some(Found::Part(Part(kind, place)));
    };
    let mut bytes = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        bytes.push(b',');
        bytes.extend_from_slice(value);
    }
    Some(Found::Bytes(bytes.into()))
}
