//! `proxy_get_shared_data`, `proxy_set_shared_data`.

use wasmtime::Linker;

use super::{Call, Done, Span, hostcall, slice};
use crate::abi::numbers::Status;
use crate::guest::Guest;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_get_shared_data", |call, key, key_size, data, size, cas| {
        call.write_u32(cas, 0)?;
        let key = call.read(Span(key, key_size))?;
        let (value, version) = call.guest().services.shared_data(key).ok_or(Status::NotFound)?;
        call.give(data, size, &value)?;
        call.write_u32(cas, version)
    });
    hostcall!(linker, "proxy_set_shared_data", |call, key, key_size, value, value_size, cas| {
        set(call, Span(key, key_size), Span(value, value_size), cas)
    });
    Ok(())
}

fn set(call: &mut Call<'_>, key: Span, value: Span, cas: u32) -> Done {
    call.claim(key)?;
    call.claim(value)?;
    let (memory, guest) = call.split();
    let (key, value) = (slice(memory, key)?, slice(memory, value)?);
    guest.services.set_shared_data(key, value, cas).map_err(|_| Status::CasMismatch)?;
    Ok(())
}
