//! Going on with a paused exchange and resetting one: `proxy_continue_stream`, `proxy_close_stream`, and the functions
//! that 0.1.0 had in their place, which real modules import with a result as well as without.

use wasmtime::{Caller, Linker};

use super::{Call, Done, answer, hostcall};
use crate::abi::numbers::Status;
use crate::abi::signatures::ENV;
use crate::effects::Effect;
use crate::guest::{Guest, Moment};
use crate::phase::Direction;
use crate::state::{Stream, StreamKey};

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_continue_stream", |call, stream| match stream {
        0 => resume(call, Kind::Http, Direction::Request),
        1 => resume(call, Kind::Http, Direction::Response),
        2 => resume(call, Kind::Tcp, Direction::Request),
        3 => resume(call, Kind::Tcp, Direction::Response),
        _ => Err(Status::BadArgument.into()),
    });
    hostcall!(linker, "proxy_close_stream", |call, stream| match stream {
        0 | 1 => record(call, Kind::Http, Effect::Close),
        2 | 3 => record(call, Kind::Tcp, Effect::Close),
        _ => Err(Status::BadArgument.into()),
    });
    Ok(())
}

type Legacy = fn(&mut Call<'_>) -> Done;

/// The 0.1.0 functions.
const LEGACY: [(&str, Legacy); 3] = [
    ("proxy_continue_request", |call| resume(call, Kind::Http, Direction::Request)),
    ("proxy_continue_response", |call| resume(call, Kind::Http, Direction::Response)),
    ("proxy_clear_route_cache", |call| call.clear_route()),
];

/// Adds the 0.1.0 functions that `module` imports, in the types it asks for.
pub(super) fn link_as_imported(
    linker: &mut Linker<Guest>,
    module: &wasmtime::Module,
) -> wasmtime::Result<()> {
    for import in module.imports().filter(|import| import.module() == ENV) {
        let Some((name, run)) = LEGACY.into_iter().find(|(name, _)| *name == import.name()) else {
            continue;
        };
        linker.allow_shadowing(true);
        if import.ty().func().is_some_and(|function| function.results().len() == 0) {
            linker.func_wrap(ENV, name, move |caller: Caller<'_, Guest>| {
                answer(caller, name, run).map(|_| ())
            })?;
        } else {
            linker
                .func_wrap(ENV, name, move |caller: Caller<'_, Guest>| answer(caller, name, run))?;
        }
    }
    Ok(())
}

/// What a number names that a guest gives for a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
}

impl Call<'_> {
    /// Has the route selected again, by the head as the guest has made it.
    pub(super) fn clear_route(&mut self) -> Done {
        let over = self.guest().moment == Moment::Finish;
        match self.guest_mut().http_mut().filter(|_| !over) {
            Some(stream) if stream.request_sent => self.ignored("the request has left"),
            Some(stream) => {
                stream.route_cleared = true;
                Ok(())
            }
            None => self.ignored("there is no exchange"),
        }
    }
}

fn resume(call: &mut Call<'_>, kind: Kind, direction: Direction) -> Done {
    record(call, kind, |key| Effect::Continue(key, direction))
}

fn record(call: &mut Call<'_>, kind: Kind, effect: impl FnOnce(StreamKey) -> Effect) -> Done {
    let guest = call.guest_mut();
    let (Some(key), Some(stream)) = (guest.stream_key(), guest.stream()) else {
        return call.ignored("there is no exchange");
    };
    let there = match stream {
        Stream::Http(_) => Kind::Http,
        Stream::Tcp(_) => Kind::Tcp,
    };
    if there != kind {
        return call.ignored("the exchange is of the other kind, HTTP or TCP");
    }
    if guest.moment == Moment::Finish {
        return call.ignored("the exchange is over");
    }
    call.record(effect(key))
}
