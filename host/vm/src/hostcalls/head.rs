//! Heads and trailers as the ABI shows them: one list in which pseudo headers come first. Reading only.
//!
//! `host` never stands in the list; whoever asks for it gets `:authority`.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use crate::abi::numbers::MapType;
use crate::abi::pairs::Pairs;
use crate::guest::{Completion, Guest};
use crate::state::{RequestHead, ResponseHead};

/// A map that a guest may read.
pub(crate) enum View<'a> {
    Request(&'a RequestHead),
    Response(&'a ResponseHead),
    Fields(&'a HeaderMap),
}

/// A value on its way to the guest; cheap to take out of its head.
pub(super) enum Value {
    Header(HeaderValue),
    Bytes(Bytes),
    Method(Method),
    Status(StatusCode),
}

impl Value {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Value::Header(value) => value.as_bytes(),
            Value::Bytes(bytes) => bytes,
            Value::Method(method) => method.as_str().as_bytes(),
            Value::Status(status) => status.as_str().as_bytes(),
        }
    }
}

impl<'a> View<'a> {
    /// The map as it is at this moment; `None` when there is none.
    pub(super) fn of(guest: &'a Guest, map: MapType) -> Option<View<'a>> {
        let stream = || guest.http();
        match map {
            MapType::RequestHeaders => Some(View::Request(&stream()?.request)),
            MapType::RequestTrailers => Some(View::Fields(stream()?.request_trailers.as_ref()?)),
            MapType::ResponseHeaders => Some(View::Response(stream()?.response.as_ref()?)),
            MapType::ResponseTrailers => Some(View::Fields(stream()?.response_trailers.as_ref()?)),
            MapType::InitialMetadata
            | MapType::TrailingMetadata
            | MapType::CallHeaders
            | MapType::CallTrailers => View::of_callout(guest.completion.as_ref()?, map),
        }
    }

    fn of_callout(completion: &'a Completion, map: MapType) -> Option<View<'a>> {
        match (completion, map) {
            (Completion::InitialMetadata(head), MapType::InitialMetadata)
            | (Completion::Http { head: Some(head), .. }, MapType::CallHeaders) => {
                Some(View::Response(head))
            }
            (Completion::TrailingMetadata(trailers), MapType::TrailingMetadata)
            | (Completion::Http { trailers, .. }, MapType::CallTrailers) => {
                Some(View::Fields(trailers))
            }
            _ => None,
        }
    }

    /// The first value of a header.
    pub(super) fn get(&self, key: &[u8]) -> Option<Value> {
        match self {
            View::Request(head) => match key {
                b":method" => return Some(Value::Method(head.method.clone())),
                b":scheme" => return Some(Value::Bytes(head.scheme.clone())),
                b":authority" => return Some(Value::Bytes(head.authority.clone())),
                b":path" => return Some(Value::Bytes(head.path.clone())),
                _ if key.eq_ignore_ascii_case(b"host") => {
                    return Some(Value::Bytes(head.authority.clone()));
                }
                _ => {}
            },
            View::Response(head) if key == b":status" => return Some(Value::Status(head.status)),
            View::Response(_) | View::Fields(_) => {}
        }
        let value = self.fields().get(std::str::from_utf8(key).ok()?)?;
        Some(Value::Header(value.clone()))
    }

    /// Number of entries, pseudo headers and repeated names included.
    pub(crate) fn len(&self) -> usize {
        let pseudo = match self {
            View::Request(_) => 4,
            View::Response(_) => 1,
            View::Fields(_) => 0,
        };
        pseudo + self.fields().len()
    }

    pub(super) fn fields(&self) -> &'a HeaderMap {
        match self {
            View::Request(head) => &head.headers,
            View::Response(head) => &head.headers,
            View::Fields(fields) => fields,
        }
    }

    /// Bytes of all names and values.
    pub(super) fn bytes(&self) -> usize {
        let mut bytes = 0;
        self.each(&mut |key, value| bytes += key.len() + value.len());
        bytes
    }
}

impl Pairs for View<'_> {
    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        match self {
            View::Request(head) => {
                visit(b":authority", &head.authority);
                visit(b":path", &head.path);
                visit(b":method", head.method.as_str().as_bytes());
                visit(b":scheme", &head.scheme);
            }
            View::Response(head) => visit(b":status", head.status.as_str().as_bytes()),
            View::Fields(_) => {}
        }
        for (name, value) in self.fields() {
            visit(name.as_str().as_bytes(), value.as_bytes());
        }
    }
}
