//! Functions of `env` that a module imports and this host does not know: each answers that it is not implemented, so that
//! the module runs as far as it can do without. `inspect` decides which they are, and whoever loads the module is told.

use wasmtime::{Caller, Linker, Val};

use crate::abi::numbers::Status;
use crate::abi::signatures::{self, ENV};
use crate::error::Fault;
use crate::guest::{Guest, Occasion, look};

/// What violations are counted under; names that guests make up are no labels.
const NAME: &str = "unknown_import";

/// Adds what `module` imports.
pub(super) fn link(linker: &mut Linker<Guest>, module: &wasmtime::Module) -> wasmtime::Result<()> {
    for import in module.imports().filter(|import| import.module() == ENV) {
        let name = import.name().to_owned();
        let function = import.ty().func().cloned();
        let Some(function) = function.filter(|_| signatures::import(ENV, &name).is_none()) else {
            continue;
        };
        linker.allow_shadowing(true);
        linker.func_new(ENV, import.name(), function, move |mut caller, _, results| {
            look(&mut caller, Occasion::Call);
            let status = refuse(&caller, &name)?;
            results.iter_mut().for_each(|result| *result = Val::I32(status as i32));
            Ok(())
        })?;
    }
    Ok(())
}

/// The Rust SDK has no variant for "unimplemented".
fn refuse(caller: &Caller<'_, Guest>, name: &str) -> Result<Status, Fault> {
    let guest = caller.data();
    if guest.allocating {
        return Err(Fault::Reentrant(NAME));
    }
    guest.violation(NAME, &format!("{ENV}.{name} is not implemented"));
    Ok(if guest.rust_sdk { Status::InternalFailure } else { Status::Unimplemented })
}
