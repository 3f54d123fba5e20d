//! Heads and trailers as the ABI shows them: one list in which pseudo headers come first. Reading only.
//!
//! `host` never stands in the list; whoever asks for it gets `:authority`.

use super::{Call, Done};
use crate::abi::numbers::MapType;
use crate::abi::pairs::Pairs;
use crate::fields::Fields;
use crate::guest::{Completion, Guest};
use crate::state::{RequestHead, ResponseHead};

/// A map that a guest may read.
pub(crate) enum View<'a> {
    Request(&'a RequestHead),
    Response(&'a ResponseHead),
    Fields(&'a Fields),
}

/// Where a value stands in its head. Stays right as long as nobody changes the head.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Method,
    Scheme,
    Authority,
    Path,
    Status,
    /// By its number among the fields.
    Field(usize),
}

/// A value that stands in a map. It is handed to guests without a copy in between.
#[derive(Clone, Copy)]
pub(super) struct Part(pub(super) MapType, pub(super) Place);

impl Part {
    pub(super) fn bytes(self, guest: &Guest) -> Option<&[u8]> {
        View::of(guest, self.0)?.at(self.1)
    }
}

impl Call<'_> {
    /// Hands the value to the guest, whose allocator runs in between: that changes no head.
    pub(super) fn give_part(&mut self, part: Part, data: u32, size: u32) -> Done {
        let length = part.bytes(self.guest()).map_or(0, <[u8]>::len);
        self.give_with(data, size, length, |out, guest| {
            if let Some(value) = part.bytes(guest).filter(|value| value.len() == out.len()) {
                out.copy_from_slice(value);
            }
        })
    }
}

impl<'a> View<'a> {
    /// The map as it is at this moment; `None` when there is none.
    pub(super) fn of(guest: &'a Guest, map: MapType) -> Option<View<'a>> {
        let stream = || guest.http();
        match map {
            MapType::RequestHeaders => Some(View::Request(&stream()?.request)),
            MapType::RequestTrailers => Some(View::Fields(stream()?.request_trailers.as_deref()?)),
            MapType::ResponseHeaders => Some(View::Response(stream()?.response.as_ref()?)),
            MapType::ResponseTrailers => {
                Some(View::Fields(stream()?.response_trailers.as_deref()?))
            }
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

    /// Where the first value of a header stands.
    pub(super) fn find(&self, key: &[u8]) -> Option<Place> {
        match self {
            View::Request(_) => match key {
                b":method" => return Some(Place::Method),
                b":scheme" => return Some(Place::Scheme),
                b":authority" => return Some(Place::Authority),
                b":path" => return Some(Place::Path),
                _ if key.eq_ignore_ascii_case(b"host") => return Some(Place::Authority),
                _ => {}
            },
            View::Response(_) if key == b":status" => return Some(Place::Status),
            View::Response(_) | View::Fields(_) => {}
        }
        self.fields().position(key).map(Place::Field)
    }

    /// The value at a place that was found in this map.
    fn at(&self, place: Place) -> Option<&'a [u8]> {
        match (self, place) {
            (View::Request(head), Place::Method) => Some(head.method.as_str().as_bytes()),
            (View::Request(head), Place::Scheme) => Some(&head.scheme),
            (View::Request(head), Place::Authority) => Some(&head.authority),
            (View::Request(head), Place::Path) => Some(&head.path),
            (View::Response(head), Place::Status) => Some(head.status.as_str().as_bytes()),
            (_, Place::Field(number)) => self.fields().value_at(number),
            _ => None,
        }
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

    pub(super) fn fields(&self) -> &'a Fields {
        match self {
            View::Request(head) => &head.headers,
            View::Response(head) => &head.headers,
            View::Fields(fields) => fields,
        }
    }

    /// Bytes of all names and values.
    pub(super) fn bytes(&self) -> usize {
        let mut bytes = self.fields().bytes();
        self.each_pseudo(&mut |key, value| bytes += key.len() + value.len());
        bytes
    }

    /// Visits what stands before the fields.
    pub(super) fn each_pseudo(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
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
    }
}

impl Pairs for View<'_> {
    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.each_pseudo(visit);
        for (name, value) in self.fields().iter() {
            visit(name, value);
        }
    }

    fn total(&self) -> (usize, usize) {
        (self.len(), self.bytes())
    }
}
