//! What guests call, one file for each family: check the arguments, read state or record an effect, return a status.
//!
//! A host call never calls back into the guest, except into its allocator to hand out bytes; while that runs the guest
//! may only log and read clocks. Statuses stay within what a stock Rust SDK takes for the function in question:
//! whatever would make such a guest panic is Ok here, counted and logged as a violation.

mod memory;
mod log;
mod header_map;
mod head;
mod edit;
mod buffer;
mod property;
mod local_reply;
mod flow;
mod http_call;
mod grpc;
mod redis;
mod shared_data;
mod queue;
mod metric;
mod context;
mod timer;
mod foreign;
mod upstream;
mod stand_in;
mod toolchain;
mod wasi;

use wasmtime::{Caller, Linker};

use crate::abi::numbers::Status;
use crate::effects::{CallId, Effect};
use crate::error::Fault;
use crate::guest::{CallKind, Guest, Moment, Occasion, look};

pub(crate) use head::View;
use memory::{Span, slice};

/// How a host call ends when it does not end well.
pub(crate) enum Stop {
    /// The guest gets this answer.
    Status(Status),
    /// The guest named memory that it does not have.
    Pointer,
    /// The callback is over.
    Fault(wasmtime::Error),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Stop {
        Stop::Status(status)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault.into())
    }
}

type Done = Result<(), Stop>;

/// One host call in progress.
pub(crate) struct Call<'a> {
    caller: Caller<'a, Guest>,
    name: &'static str,
}

impl<'a> Call<'a> {
    fn new(mut caller: Caller<'a, Guest>, name: &'static str) -> Call<'a> {
        look(&mut caller, Occasion::Call);
        let mut call = Call { caller, name };
        call.find_memory();
        call
    }
}

impl Call<'_> {
    fn guest(&self) -> &Guest {
        self.caller.data()
    }

    fn guest_mut(&mut self) -> &mut Guest {
        self.caller.data_mut()
    }

    /// The call has no meaning at this moment: it is ignored, and the guest is told that all is well.
    fn ignored(&self, why: &str) -> Done {
        self.guest().violation(self.name, why);
        Ok(())
    }

    /// Records what the guest asks for; a guest that asks without end runs out of memory.
    fn record(&mut self, effect: Effect) -> Done {
        if self.guest().moment == Moment::StartUp {
            return self.ignored("there is no context yet");
        }
        self.hold(size_of::<Effect>() as u32)?;
        self.guest_mut().effects.push_back(effect);
        Ok(())
    }

    /// Gives a callout that the guest makes its number; `bytes`: what the host keeps for it until it is over, of all
    /// callouts together at most as much as the guest may have itself.
    fn begin(&mut self, kind: CallKind, bytes: usize) -> Result<CallId, Stop> {
        let name = self.name;
        let guest = self.guest_mut();
        let stream = guest.stream_key();
        let limit = guest.spec.limits.memory;
        let begun = guest.calls.begin(kind, stream, bytes, limit);
        begun.ok_or_else(|| {
            guest.violation(name, "too many or too long calls are on the way");
            Status::InternalFailure.into()
        })
    }

    /// Counts what the guest hands over and the host is about to keep; a span that the guest does not have is a bad
    /// pointer, however long it claims to be.
    fn claim(&mut self, span: Span) -> Done {
        self.read(span)?;
        self.hold(span.1)
    }

    /// Counts bytes that the host is about to keep for the guest.
    fn hold(&mut self, bytes: u32) -> Done {
        let name = self.name;
        if self.guest_mut().quota.hold(bytes as usize) {
            return Ok(());
        }
        Err(Fault::Held(name).into())
    }
}

/// Runs a host call that an allocator must not make.
fn answer(
    caller: Caller<'_, Guest>,
    name: &'static str,
    run: impl FnOnce(&mut Call<'_>) -> Done,
) -> wasmtime::Result<u32> {
    if caller.data().allocating {
        return Err(Fault::Reentrant(name).into());
    }
    answer_always(caller, name, run)
}

/// Runs a host call that may be made from the allocator too.
fn answer_always(
    caller: Caller<'_, Guest>,
    name: &'static str,
    run: impl FnOnce(&mut Call<'_>) -> Done,
) -> wasmtime::Result<u32> {
    let mut call = Call::new(caller, name);
    match run(&mut call) {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Stop::Status(status)) => Ok(status as u32),
        Err(Stop::Pointer) if call.guest().rust_sdk => Err(Fault::Pointer(name).into()),
        Err(Stop::Pointer) => Ok(Status::InvalidMemoryAccess as u32),
        Err(Stop::Fault(fault)) => Err(fault),
    }
}

/// Adds one `env` function; arguments are u32 unless they say otherwise.
macro_rules! hostcall {
    ($linker:ident, $name:literal, |$call:ident $(, $arg:ident)+| $body:expr) => {
        hostcall!($linker, $name, |$call $(, $arg: u32)+| $body)
    };
    ($linker:ident, $name:literal, |$call:ident $(, $arg:ident: $type:ty)*| $body:expr) => {
        $linker.func_wrap(
            $crate::abi::signatures::ENV,
            $name,
            |caller: wasmtime::Caller<'_, $crate::guest::Guest> $(, $arg: $type)*| {
                $crate::hostcalls::answer(caller, $name, |$call| $body)
            },
        )?
    };
}
use hostcall;

/// Everything that this host provides, in the types that `module` asks for.
pub(crate) fn linker(
    engine: &wasmtime::Engine,
    module: &wasmtime::Module,
) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    let families = [
        log::link,
        header_map::link,
        buffer::link,
        property::link,
        local_reply::link,
        flow::link,
        http_call::link,
        grpc::link,
        redis::link,
        shared_data::link,
        queue::link,
        metric::link,
        context::link,
        timer::link,
        foreign::link,
        upstream::link,
        toolchain::link,
        wasi::link,
    ];
    for family in families {
        family(&mut linker)?;
    }
    flow::link_as_imported(&mut linker, module)?;
    stand_in::link(&mut linker, module)?;
    Ok(linker)
}
