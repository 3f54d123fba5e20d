//! `proxy_*_header_map_*`: heads and trailers of the exchange, and of a callout's answer.
//!
//! Request headers stay readable for the life of the exchange. What can no longer be changed is left alone: the guest
//! is told that all is well (the stock Rust SDK panics otherwise), and the attempt is counted.

use wasmtime::Linker;

use super::edit::{Ignored, Target};
use super::head::Part;
use super::{Call, Done, Span, View, hostcall, slice};
use crate::abi::numbers::{MapType, Status};
use crate::abi::pairs;
use crate::error::Fault;
use crate::guest::Guest;
use crate::inspect::Abi;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_get_header_map_size", |call, map, size| {
        let bytes = View::of(call.guest(), kind(map)?).map_or(0, |view| view.bytes());
        call.write_u32(size, bytes as u32)
    });
    hostcall!(linker, "proxy_get_header_map_pairs", |call, map, data, size| {
        let map = kind(map)?;
        let bytes = View::of(call.guest(), map).map_or(0, |view| pairs::measure(&view).1);
        call.give_with(data, size, bytes, |out, guest| {
            if let Some(view) = View::of(guest, map) {
                pairs::encode(&view, out);
            }
        })
    });
    hostcall!(linker, "proxy_set_header_map_pairs", |call, map, data, size| {
        set(call, kind(map)?, Span(data, size))
    });
    hostcall!(linker, "proxy_get_header_map_value", |call, map, key, key_size, data, size| {
        get(call, kind(map)?, Span(key, key_size), data, size)
    });
    hostcall!(
        linker,
        "proxy_add_header_map_value",
        |call, map, key, key_size, value, value_size| {
            let (key, value) = (Span(key, key_size), Span(value, value_size));
            change(call, kind(map)?, key, value, |to, key, value| to.add(key, value))
        }
    );
    hostcall!(linker, "proxy_replace_header_map_value", |call, map, key, key_size, value, size| {
        let (key, value) = (Span(key, key_size), Span(value, size));
        change(call, kind(map)?, key, value, |to, key, value| to.replace(key, value))
    });
    hostcall!(linker, "proxy_remove_header_map_value", |call, map, key, size| {
        let key = Span(key, size);
        change(call, kind(map)?, key, Span(0, 0), |target, key, _| target.remove(key))
    });
    Ok(())
}

fn kind(map: u32) -> Result<MapType, Status> {
    MapType::of(map).ok_or(Status::BadArgument)
}

fn get(call: &mut Call<'_>, map: MapType, key: Span, data: u32, size: u32) -> Done {
    let (memory, guest) = call.split();
    let key = slice(memory, key)?;
    match View::of(guest, map).and_then(|view| view.find(key)) {
        Some(place) => call.give_part(Part(map, place), data, size),
        None if guest.abi == Abi::V0_1_0 => call.give(data, size, &[]),
        None => Err(Status::NotFound.into()),
    }
}

fn set(call: &mut Call<'_>, map: MapType, span: Span) -> Done {
    call.claim(span)?;
    let name = call.name;
    let (memory, guest) = call.split();
    let Some(pairs) = pairs::decode(slice(memory, span)?) else {
        guest.violation(name, "the serialized map is malformed or too large");
        return Ok(());
    };
    let result = Target::of(guest, map).and_then(|mut target| target.set(&pairs));
    report(guest, name, result)
}

fn change(
    call: &mut Call<'_>,
    map: MapType,
    key: Span,
    value: Span,
    apply: impl FnOnce(&mut Target<'_>, &[u8], &[u8]) -> Result<(), Ignored>,
) -> Done {
    let name = call.name;
    let (memory, guest) = call.split();
    let (key, value) = (slice(memory, key)?, slice(memory, value)?);
    if !guest.quota.hold(key.len().saturating_add(value.len())) {
        return Err(Fault::Held(name).into());
    }
    let result = Target::of(guest, map).and_then(|mut target| apply(&mut target, key, value));
    report(guest, name, result)
}

fn report(guest: &Guest, name: &'static str, result: Result<(), Ignored>) -> Done {
    if let Err(why) = result {
        guest.violation(name, why);
    }
    Ok(())
}
