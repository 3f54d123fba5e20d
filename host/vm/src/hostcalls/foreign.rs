//! `proxy_call_foreign_function`: no function is known, so each is NotFound, which every SDK takes.

use wasmtime::Linker;

use super::{Span, hostcall};
use crate::abi::numbers::Status;
use crate::guest::Guest;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(
        linker,
        "proxy_call_foreign_function",
        |call, name, size, _arguments, _arguments_size, _results, _results_size| {
            call.read(Span(name, size))?;
            Err(Status::NotFound.into())
        }
    );
    Ok(())
}
