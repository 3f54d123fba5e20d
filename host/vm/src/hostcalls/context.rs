//! `proxy_set_effective_context`, `proxy_done`.

use wasmtime::Linker;

use super::hostcall;
use crate::abi::numbers::Status;
use crate::effects::Effect;
use crate::guest::Guest;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_set_effective_context", |call, context| {
        let contexts = &mut call.guest_mut().contexts;
        if !contexts.contains(context) {
            return Err(Status::BadArgument.into());
        }
        contexts.select(context);
        Ok(())
    });
    hostcall!(linker, "proxy_done", |call| {
        let guest = call.guest_mut();
        if !guest.contexts.is_root() || !std::mem::take(&mut guest.awaiting_done) {
            return call.ignored("the context is not waiting to be done");
        }
        call.record(Effect::Done)
    });
    Ok(())
}
