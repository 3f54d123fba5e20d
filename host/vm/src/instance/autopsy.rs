//! Why an instance died, in words: from wasmtime's error, the accounts, and the guest's last log lines.

use wasmtime::WasmBacktrace;

use crate::engine::Engine;
use crate::error::{Death, Fault, Trap, TrapReason};
use crate::guest::Guest;

/// Describes the error that ended `callback`.
pub(super) fn explain(guest: &Guest, callback: &str, error: &wasmtime::Error) -> Trap {
    let (reason, what) = cause(guest, error);
    let mut message = format!("{callback}: {what}");
    if reason != TrapReason::Panic
        && let Some(last) = guest.notes.text()
    {
        message.push_str("; last log: ");
        message.push_str(&last);
    }
    let mut backtrace = backtrace(error);
    if guest.steps.is_some() && backtrace.len() <= Engine::FRAMES.get() {
        // The outermost function is ours.
        backtrace.pop();
    }
    backtrace.truncate(Engine::FRAMES.get());
    Death { reason, message, backtrace }.into()
}

fn cause(guest: &Guest, error: &wasmtime::Error) -> (TrapReason, String) {
    let fault = error.downcast_ref::<Fault>();
    let trap = error.downcast_ref::<wasmtime::Trap>();
    let what = match (fault, trap) {
        (Some(fault), _) => fault.to_string(),
        (None, Some(trap)) => trap.to_string(),
        (None, None) => error.root_cause().to_string(),
    };
    match fault {
        Some(Fault::Cpu(_) | Fault::Wall(_)) => return (TrapReason::Cpu, what),
        Some(Fault::Held(_)) => return (TrapReason::Memory, what),
        Some(Fault::Abort(text)) => return (TrapReason::Panic, text.clone()),
        Some(_) => return (TrapReason::Trap, what),
        None => {}
    }
    if guest.quota.denied() {
        let limit = guest.spec.limits.memory;
        return (TrapReason::Memory, format!("memory limit of {limit} bytes met, then {what}"));
    }
    match guest.notes.panic() {
        Some(text) if trap == Some(&wasmtime::Trap::UnreachableCodeReached) => {
            (TrapReason::Panic, format!("guest panicked: {text}"))
        }
        _ => (TrapReason::Trap, what),
    }
}

fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().map(name).collect()
}
