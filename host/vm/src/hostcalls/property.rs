//! `proxy_get_property`, `proxy_set_property`: paths, encodings, and what guests stored themselves.
//!
//! Values are encoded as Envoy's `serializeValue` does. What the vm knows wins over what guests stored, and that over
//! what the embedder adds.

mod connection;
mod found;
mod http;
mod lookup;

use bytes::Bytes;
use found::Found;
use wasmtime::Linker;

use super::{Call, Done, Span, hostcall, slice};
use crate::abi::numbers::Status;
use crate::attributes::Attribute;
use crate::expression::Operand;
use crate::filter_state::{State, StateError, StateKind};
use crate::guest::Guest;

/// More segments than any attribute has.
const MAX_DEPTH: usize = 8;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_get_property", |call, path, path_size, data, size| {
        let (memory, guest) = call.split();
        let value = find(guest, slice(memory, Span(path, path_size))?)?;
        value.give(call, data, size)
    });
    hostcall!(linker, "proxy_set_property", |call, path, path_size, value, value_size| {
        set(call, Span(path, path_size), Span(value, value_size))
    });
    Ok(())
}

/// An attribute by the segments of its path, not encoded.
pub(super) fn operand(guest: &Guest, path: &[&str]) -> Option<Operand> {
    if let Some(found) = lookup::attribute(guest, path) {
        return Some(match found {
            Found::Value(value) => Operand::Attribute(value),
            text => Operand::Text(text.into_bytes(guest)),
        });
    }
    match stored(guest, path.join("\0").as_bytes(), path) {
        Some(state) if state.declaration().kind == StateKind::String => {
            Some(Operand::Text(Bytes::copy_from_slice(state.value())))
        }
        Some(state) => Some(Operand::Attribute(Attribute::Bytes(state.value().to_vec()))),
        None => guest.services.attribute(guest.stream(), path).map(Operand::Attribute),
    }
}

/// An attribute by the raw path, encoded.
fn find(guest: &Guest, raw: &[u8]) -> Result<Found, Status> {
    let raw = raw.strip_suffix(b"\0").unwrap_or(raw);
    let mut segments = [""; MAX_DEPTH];
    let mut depth = 0;
    for segment in raw.split(|byte| *byte == 0) {
        let place = segments.get_mut(depth).ok_or(Status::NotFound)?;
        *place = std::str::from_utf8(segment).map_err(|_| Status::NotFound)?;
        depth += 1;
    }
    let path = &segments[..depth];
    if lookup::is_object(path) {
        return Err(Status::SerializationFailure);
    }
    lookup::attribute(guest, path)
        .or_else(|| stored(guest, raw, path).map(|state| Found::copy(state.value())))
        .or_else(|| guest.services.attribute(guest.stream(), path).map(Found::Value))
        .map(Found::encoded)
        .ok_or(Status::NotFound)
}

/// What guests stored: under its own path, or as `filter_state` by its whole name.
fn stored<'a>(guest: &'a Guest, raw: &[u8], path: &[&str]) -> Option<&'a State> {
    let known = guest.stream()?.filter_state();
    match path {
        ["filter_state", name] => known.get(name.as_bytes()),
        _ => known.property(raw),
    }
}

fn set(call: &mut Call<'_>, path: Span, value: Span) -> Done {
    let name = call.name;
    let (memory, guest) = call.split();
    let (path, value) = (slice(memory, path)?, slice(memory, value)?);
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let declaration = guest.declared.of(path);
    let Some(stream) = guest.stream_mut() else {
        guest.violation(name, "there is no exchange to store it with");
        return Ok(());
    };
    match stream.filter_state_mut().set_property(path, value, declaration) {
        Ok(()) => Ok(()),
        Err(StateError::ReadOnly) if !guest.rust_sdk => Err(Status::BadArgument.into()),
        Err(refused) => {
            guest.violation(name, &refused.to_string());
            Ok(())
        }
    }
}
