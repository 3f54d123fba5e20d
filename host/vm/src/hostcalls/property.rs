//! `proxy_get_property`, `proxy_set_property`: paths, encodings, and what guests stored themselves.
//!
//! Values are encoded as Envoy's `serializeValue` does. What the vm knows wins over what guests stored, and that over
//! what the embedder adds.

mod lookup;

use bytes::Bytes;
use wasmtime::Linker;

use super::timer::nanoseconds;
use super::{Call, Done, Span, hostcall, slice};
use crate::abi::numbers::Status;
use crate::abi::pairs::{self, Pairs};
use crate::attributes::Attribute;
use crate::guest::{Guest, Moment};

/// More segments than any attribute has.
const MAX_DEPTH: usize = 8;
/// Most bytes that guests may store with one exchange, paths included.
const MAX_STORED: usize = 64 << 10;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_get_property", |call, path, path_size, data, size| {
        let (memory, guest) = call.split();
        let value = find(guest, slice(memory, Span(path, path_size))?).ok_or(Status::NotFound)?;
        call.give(data, size, &value)
    });
    hostcall!(linker, "proxy_set_property", |call, path, path_size, value, value_size| {
        set(call, Span(path, path_size), Span(value, value_size))
    });
    Ok(())
}

fn find(guest: &Guest, raw: &[u8]) -> Option<Bytes> {
    let raw = raw.strip_suffix(b"\0").unwrap_or(raw);
    let mut segments = [""; MAX_DEPTH];
    let mut depth = 0;
    for segment in raw.split(|byte| *byte == 0) {
        *segments.get_mut(depth)? = std::str::from_utf8(segment).ok()?;
        depth += 1;
    }
    let path = &segments[..depth];
    if let Some(found) = lookup::attribute(guest, path) {
        return Some(match found {
            lookup::Found::Raw(bytes) => bytes,
            lookup::Found::Value(value) => encode(value),
        });
    }
    stored(guest, raw, path).or_else(|| guest.services.attribute(guest.stream(), path).map(encode))
}

/// What a guest stored, under its own path or as Envoy shows it: `filter_state`, `wasm.<path>`.
fn stored(guest: &Guest, raw: &[u8], path: &[&str]) -> Option<Bytes> {
    let name = match path {
        ["filter_state", name] => name.strip_prefix("wasm.")?.as_bytes(),
        _ => raw,
    };
    let properties = &guest.stream()?.properties;
    let (_, value) = properties.iter().find(|(path, _)| path == name)?;
    Some(Bytes::copy_from_slice(value))
}

fn set(call: &mut Call<'_>, path: Span, value: Span) -> Done {
    let name = call.name;
    let (memory, guest) = call.split();
    let (path, value) = (slice(memory, path)?, slice(memory, value)?);
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let over = guest.moment == Moment::Finish;
    let Some(stream) = guest.stream_mut().filter(|_| !over) else {
        guest.violation(name, "there is no exchange to store it with");
        return Ok(());
    };
    let others = stream.properties.iter().filter(|(known, _)| known != path);
    let taken: usize = others.map(|(path, value)| path.len() + value.len()).sum();
    if taken.saturating_add(path.len()).saturating_add(value.len()) > MAX_STORED {
        guest.violation(name, "the exchange holds too many properties");
        return Ok(());
    }
    match stream.properties.iter_mut().find(|(known, _)| known == path) {
        Some((_, known)) => *known = value.to_vec(),
        None => stream.properties.push((path.to_vec(), value.to_vec())),
    }
    Ok(())
}

fn encode(value: Attribute) -> Bytes {
    let eight = |bytes: [u8; 8]| Bytes::copy_from_slice(&bytes);
    match value {
        Attribute::Bytes(bytes) => bytes.into(),
        Attribute::Int(number) => eight(number.to_le_bytes()),
        Attribute::Uint(number) => eight(number.to_le_bytes()),
        Attribute::Bool(truth) => Bytes::copy_from_slice(&[u8::from(truth)]),
        Attribute::Timestamp(time) => eight(nanoseconds(time).to_le_bytes()),
        Attribute::Duration(duration) => {
            let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
            eight(nanoseconds.to_le_bytes())
        }
        Attribute::Map(map) => {
            let map = Entries(map);
            let mut bytes = vec![0; pairs::measure(&map).1];
            pairs::encode(&map, &mut bytes);
            bytes.into()
        }
    }
}

struct Entries(Vec<(Vec<u8>, Vec<u8>)>);

impl Pairs for Entries {
    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.iter().for_each(|(key, value)| visit(key, value));
    }
}
