//! A value on its way from an attribute to the guest. What filters read most is not copied on this way.

use std::fmt::{self, Write};
use std::sync::Arc;

use bytes::Bytes;

use crate::attributes::Attribute;
use crate::guest::Guest;
use crate::hostcalls::head::Part;
use crate::hostcalls::{Call, Done};

/// An attribute that was found: a text, or another value.
pub(super) enum Found {
    Part(Part),
    Bytes(Bytes),
    Name(Arc<str>),
    Static(&'static str),
    Short(Short),
    Value(Attribute),
}

/// A few bytes.
pub(super) struct Short {
    bytes: [u8; Short::MAX],
    length: usize,
}

impl Short {
    /// The longest socket address has 58 bytes.
    const MAX: usize = 64;

    fn of(bytes: &[u8]) -> Option<Short> {
        let mut short = Short { length: bytes.len(), ..Short::default() };
        short.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(short)
    }
}

impl Default for Short {
    fn default() -> Short {
        Short { bytes: [0; Short::MAX], length: 0 }
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let room = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl Found {
    /// Hands it to the guest: a text, or what is [`encoded`](Self::encoded).
    pub(super) fn give(&self, call: &mut Call<'_>, data: u32, size: u32) -> Done {
        match self {
            Found::Part(part) => call.give_part(*part, data, size),
            held => call.give(data, size, held.as_bytes()),
        }
    }

    /// What it holds itself.
    fn as_bytes(&self) -> &[u8] {
        match self {
            Found::Bytes(bytes) => bytes,
            Found::Name(name) => name.as_bytes(),
            Found::Static(text) => text.as_bytes(),
            Found::Short(short) => &short.bytes[..short.length],
            Found::Value(Attribute::Bytes(bytes)) => bytes,
            Found::Value(_) | Found::Part(_) => &[],
        }
    }

    pub(super) fn into_bytes(self, guest: &Guest) -> Bytes {
        match self {
            Found::Bytes(bytes) => bytes,
            Found::Part(part) => part.bytes(guest).map_or(Bytes::new(), Bytes::copy_from_slice),
            other => Bytes::copy_from_slice(other.as_bytes()),
        }
    }

    /// In the form that guests get, in which it is bytes.
    pub(super) fn encoded(self) -> Found {
        match self {
            Found::Value(Attribute::Int(number)) => Found::copy(&number.to_le_bytes()),
            Found::Value(Attribute::Uint(number)) => Found::copy(&number.to_le_bytes()),
            Found::Value(value) => Found::Bytes(value.encode().into()),
            text => text,
        }
    }

    pub(super) fn copy(bytes: &[u8]) -> Found {
        match Short::of(bytes) {
            Some(short) => Found::Short(short),
            None => Found::Bytes(Bytes::copy_from_slice(bytes)),
        }
    }

    pub(super) fn written(value: impl fmt::Display) -> Found {
        let mut short = Short::default();
        match write!(short, "{value}") {
            Ok(()) => Found::Short(short),
            Err(fmt::Error) => Found::Bytes(value.to_string().into()),
        }
    }
}

/// A protobuf message without a field; also a text without a letter.
pub(super) const EMPTY: Found = Found::Static("");

pub(super) fn text(text: &str) -> Option<Found> {
    Some(Found::copy(text.as_bytes()))
}

pub(super) fn name(name: Option<&Arc<str>>) -> Option<Found> {
    Some(Found::Name(name?.clone()))
}

pub(super) fn int(number: i64) -> Option<Found> {
    value(Attribute::Int(number))
}

pub(super) fn value(value: Attribute) -> Option<Found> {
    Some(Found::Value(value))
}

/// A map without an entry.
pub(super) fn no_entries() -> Option<Found> {
    value(Attribute::Map(Vec::new()))
}
