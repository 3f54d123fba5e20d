//! A guest that makes any host call in any phase. Which ones it is told by the environment variable `CELLS`, by the request
//! header `x-cells` or, on TCP, by first bytes of the form `cells …`: `PHASE/CALL` each. For each it logs one line,
//! `cell PHASE/CALL RESULT`; with `TRACE` set also one for each callback, with its arguments.

mod calls;
mod callbacks;
mod host;
mod state;

/// Fills the cells of a phase.
fn at(phase: &str) {
    for cell in state::take(phase) {
        let call = cell.split_once('/').map_or("", |(_, call)| call);
        let result = calls::make(call);
        host::say(&format!("cell {cell} {result}"));
    }
}

#[cfg(feature = "abi-0-1-0")]
#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_1_0() {}

#[cfg(feature = "abi-0-2-0")]
#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_0() {}

#[cfg(feature = "abi-0-2-1")]
#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_1() {}
