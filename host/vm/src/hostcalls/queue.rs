//! `proxy_*_shared_queue`.

use wasmtime::Linker;

use super::{Call, Done, Span, hostcall, slice};
use crate::abi::numbers::Status;
use crate::guest::Guest;
use crate::services::{QueueError, QueueId};

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_register_shared_queue", |call, name, size, id| {
        register(call, Span(name, size), id)
    });
    hostcall!(linker, "proxy_resolve_shared_queue", |call, vm_id, vm_id_size, name, size, id| {
        resolve(call, Span(vm_id, vm_id_size), Span(name, size), id)
    });
    hostcall!(linker, "proxy_enqueue_shared_queue", |call, queue, data, size| {
        call.claim(Span(data, size))?;
        let element = call.read(Span(data, size))?;
        if call.guest().services.enqueue(QueueId(queue), element) {
            return Ok(());
        }
        Err(Status::NotFound.into())
    });
    hostcall!(linker, "proxy_dequeue_shared_queue", |call, queue, data, size| {
        call.give(data, size, &[])?;
        if call.guest().allocate.is_none() {
            // An element that cannot be handed out stays where it is.
            return Err(Status::NotFound.into());
        }
        let element =
            call.guest().services.dequeue(QueueId(queue)).map_err(|error| match error {
                QueueError::NotFound => Status::NotFound,
                QueueError::Empty => Status::Empty,
            })?;
        call.give(data, size, &element)
    });
    Ok(())
}

/// Queue 0 does not exist: there is no status for "no room" that a stock SDK takes here.
fn register(call: &mut Call<'_>, name: Span, id: u32) -> Done {
    call.write_u32(id, 0)?;
    call.claim(name)?;
    match call.guest().services.register_queue(call.read(name)?) {
        Some(queue) => call.write_u32(id, queue.0),
        None => call.ignored("there is no room for another queue"),
    }
}

fn resolve(call: &mut Call<'_>, vm_id: Span, name: Span, id: u32) -> Done {
    call.write_u32(id, 0)?;
    let (memory, guest) = call.split();
    let (vm_id, name) = (slice(memory, vm_id)?, slice(memory, name)?);
    let queue = guest.services.resolve_queue(vm_id, name).ok_or(Status::NotFound)?;
    call.write_u32(id, queue.0)
}
