//! Callbacks for which the guest is entered together ([`joint`](crate::joint)). The host does not hear when one ends and the
//! next begins: it looks when something depends on it, at the first host call, tick or trap of each.

use wasmtime::{AsContext, AsContextMut, StoreContextMut, Val};

use super::{Entry, Guest, Moment};
use crate::effects::ContextId;
use crate::phase::Phase;

/// What the guest does after a callback in which it was told to stop: leaves out the next one.
const APART: i32 = -1;

/// Callbacks that come one after the other.
#[derive(Clone, Copy)]
pub(crate) enum Steps {
    /// `proxy_on_context_create`, `proxy_on_request_headers`
    Open { end_of_stream: bool },
    /// `proxy_on_log`, `proxy_on_done`, `proxy_on_delete`
    Finish,
}

/// Callbacks for one context, and how far the guest has come as far as the host has looked.
#[derive(Clone, Copy)]
pub(crate) struct Joint {
    steps: Steps,
    context: ContextId,
    at: i32,
    /// The callbacks after this one are to be entered by themselves.
    pub(crate) is_apart: bool,
}

impl Joint {
    pub(crate) fn new(steps: Steps, context: ContextId) -> Joint {
        Joint { steps, context, at: 0, is_apart: false }
    }

    /// The running callback.
    pub(crate) fn entry(&self) -> Entry {
        let (callback, moment) = match (self.steps, self.at) {
            (Steps::Open { .. }, 0) => ("proxy_on_context_create", Moment::Root),
            (Steps::Open { end_of_stream }, _) => {
                let phase = Phase::RequestHeaders;
                (phase.callback(), Moment::Stream { phase, end_of_stream })
            }
            (Steps::Finish, 0) => ("proxy_on_log", Moment::Finish),
            (Steps::Finish, 1) => ("proxy_on_done", Moment::Finish),
            (Steps::Finish, _) => ("proxy_on_delete", Moment::Finish),
        };
        Entry { callback, moment, context: Some(self.context) }
    }
}

/// Begins the callback that the guest is in, if it has gone on to another one.
#[inline]
pub(crate) fn keep_up(store: &mut impl AsContextMut<Data = Guest>) {
    if store.as_context().data().joint.is_some() {
        catch_up(store.as_context_mut());
    }
}

fn catch_up(mut store: StoreContextMut<'_, Guest>) {
    let guest = store.data();
    let (Some(mut joint), Some(step)) = (guest.joint, guest.step) else { return };
    let at = step.get(&mut store).i32().unwrap_or_default();
    if matches!(joint.steps, Steps::Open { .. }) && at == 0 && !joint.is_apart {
        // What the guest asks for now may change what the next callback is told.
        joint.is_apart = step.set(&mut store, Val::I32(APART)).is_ok();
    }
    let guest = store.data_mut();
    if at != APART && at != joint.at {
        joint.at = at;
        guest.begin(&joint.entry());
    }
    guest.joint = Some(joint);
}
