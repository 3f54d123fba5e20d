//! `proxy_log`, `proxy_get_log_level`.

use wasmtime::{Caller, Linker};

use super::{Call, Done, Span, answer_always, hostcall, slice};
use crate::abi::numbers::Status;
use crate::abi::signatures::ENV;
use crate::guest::Guest;
use crate::services::LogLevel;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_log",
        |caller: Caller<'_, Guest>, level: u32, text: u32, size: u32| {
            answer_always(caller, "proxy_log", |call| log(call, level, Span(text, size)))
        },
    )?;
    hostcall!(linker, "proxy_get_log_level", |call, level| {
        let lowest = call.guest().services.log_level();
        call.write_u32(level, lowest as u32)
    });
    Ok(())
}

fn log(call: &mut Call<'_>, level: u32, text: Span) -> Done {
    let level = LogLevel::of(level).ok_or(Status::BadArgument)?;
    let (memory, guest) = call.split();
    guest.log(level, slice(memory, text)?);
    Ok(())
}
