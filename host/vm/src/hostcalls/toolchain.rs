//! `env` functions that toolchains import beside the ABI: emscripten's and AssemblyScript's.

use wasmtime::{Caller, Linker};

use super::{Call, Span};
use crate::abi::signatures::ENV;
use crate::error::Fault;
use crate::guest::Guest;
use crate::services::LogLevel;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "pthread_equal", |left: u32, right: u32| u32::from(left == right))?;
    linker.func_wrap(ENV, "emscripten_notify_memory_growth", |_memory: u32| ())?;
    linker.func_wrap(
        ENV,
        "abort",
        |caller: Caller<'_, Guest>, message: u32, file: u32, line: u32, column: u32| {
            abort(Call::new(caller, "abort"), [message, file], [line, column])
        },
    )?;
    Ok(())
}

/// AssemblyScript's end: the text becomes the reason of the trap.
fn abort(mut call: Call<'_>, texts: [u32; 2], at: [u32; 2]) -> wasmtime::Result<()> {
    let [message, file] = texts.map(|text| string(&call, text).unwrap_or_default());
    let text = format!("abort: {message} at {file}:{}:{}", at[0], at[1]);
    call.guest_mut().log(LogLevel::Critical, text.as_bytes());
    Err(Fault::Abort(text).into())
}

/// An AssemblyScript string: UTF-16, its length in bytes stands in the four bytes before it.
fn string(call: &Call<'_>, at: u32) -> Option<String> {
    const LONGEST: u32 = 4096;
    let length = call.read(Span(at.checked_sub(4)?, 4)).ok()?;
    let length = u32::from_le_bytes(length.try_into().ok()?).min(LONGEST);
    let bytes = call.read(Span(at, length)).ok()?;
    let units: Vec<u16> =
        bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    Some(String::from_utf16_lossy(&units))
}
