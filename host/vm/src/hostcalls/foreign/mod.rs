//! `proxy_call_foreign_function`: the functions that Envoy has beyond the ABI, under Envoy's names. Unknown names are
//! NotFound, which every SDK takes.
//!
//! Statuses are those that the Rust SDK takes from this call: Ok, NotFound, BadArgument, SerializationFailure,
//! InternalFailure.

mod expression;
mod message;
mod signature;
mod state;
mod zlib;

use wasmtime::Linker;

use super::{Call, Span, Stop, hostcall};
use crate::abi::numbers::Status;
use crate::guest::Guest;

/// Takes the arguments; gives the result, which may be no bytes.
type Function = fn(&mut Call<'_>, &[u8]) -> Result<Vec<u8>, Stop>;

const FUNCTIONS: &[(&str, Function)] = &[
    ("clear_route_cache", state::clear_route_cache),
    ("compress", zlib::compress),
    ("declare_property", state::declare_property),
    ("expr_create", expression::create),
    ("expr_delete", expression::delete),
    ("expr_evaluate", expression::evaluate),
    ("set_envoy_filter_state", state::set_envoy_filter_state),
    ("sign", signature::sign),
    ("uncompress", zlib::uncompress),
    ("verify_signature", signature::verify),
];

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(
        linker,
        "proxy_call_foreign_function",
        |call, name, size, arguments, arguments_size, results, results_size| {
            let name = call.read(Span(name, size))?;
            let known = FUNCTIONS.iter().find(|function| function.0.as_bytes() == name);
            let (_, function) = known.ok_or(Status::NotFound)?;
            let arguments = Span(arguments, arguments_size);
            call.read(arguments)?;
            call.hold(arguments.1)?;
            let arguments = call.read(arguments)?.to_vec();
            let result = function(call, &arguments)?;
            if results == 0 {
                return Ok(());
            }
            call.give(results, results_size, &result)
        }
    );
    Ok(())
}

impl Call<'_> {
    /// Called between the parts of a long host call: it counts as the guest's own time.
    fn check_budget(&mut self) -> Result<(), Stop> {
        let guest = self.guest_mut();
        Ok(guest.budget.check(guest.services.as_ref())?)
    }
}
