//! The last callbacks of an exchange, for which the guest is entered once ([`joint`](crate::joint)). The host does not hear when
//! one ends and the next begins: it looks when something depends on it, which is at a host call, a tick or a trap. The
//! callbacks after that one are then left to the host, so that it looks once.

use wasmtime::{AsContext, AsContextMut, StoreContextMut, Val};

use super::{Entry, Guest, Moment};
use crate::effects::ContextId;
use crate::joint::STOP;

/// In the order in which they are made.
const CALLBACKS: [&str; 3] = ["proxy_on_log", "proxy_on_done", "proxy_on_delete"];

/// The callbacks that a guest makes one after the other, and what is known of how far it has come.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    context: ContextId,
    /// Number of the callback that runs, as far as the host knows.
    at: usize,
    is_known: bool,
    rest: Rest,
}

/// Who makes the callbacks after the one in which the host has looked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Guest,
    /// A tick has come.
    Host,
    /// The guest has called the host.
    HostForCall,
}

/// What makes the host look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    Call,
    Tick,
    Trap,
}

impl Steps {
    pub(crate) fn new(context: ContextId) -> Steps {
        Steps { context, at: 0, is_known: false, rest: Rest::Guest }
    }

    /// How many of the callbacks the guest has made.
    pub(crate) fn made(&self) -> usize {
        match self.rest {
            Rest::Guest => CALLBACKS.len(),
            Rest::Host | Rest::HostForCall => self.at + 1,
        }
    }

    /// Whether it was of no use to enter the guest for all of them, and mostly will be of none.
    pub(crate) fn were_in_vain(&self) -> bool {
        self.rest == Rest::HostForCall
    }

    /// The running callback.
    pub(crate) fn entry(&self) -> Entry {
        let callback = CALLBACKS[self.at.min(CALLBACKS.len() - 1)];
        Entry { callback, moment: Moment::Finish, context: Some(self.context) }
    }
}

/// Looks which callback the guest is in, if that is not known.
#[inline]
pub(crate) fn look(store: &mut impl AsContextMut<Data = Guest>, occasion: Occasion) {
    if store.as_context().data().steps.as_ref().is_some_and(|steps| !steps.is_known) {
        find_out(store.as_context_mut(), occasion);
    }
}

#[cold]
fn find_out(mut store: StoreContextMut<'_, Guest>, occasion: Occasion) {
    let (Some(mut steps), Some(step)) = (store.data().steps, store.data().step) else { return };
    let at = step.get(&mut store).i32().and_then(|at| usize::try_from(at).ok()).unwrap_or(0);
    let has_gone_on = at != steps.at;
    steps.at = at;
    steps.is_known = true;
    if at + 1 < CALLBACKS.len() && step.set(&mut store, Val::I32(STOP)).is_ok() {
        steps.rest = if occasion == Occasion::Call { Rest::HostForCall } else { Rest::Host };
    }
    let guest = store.data_mut();
    guest.steps = Some(steps);
    if has_gone_on {
        let denied = guest.quota.denied();
        guest.begin(&steps.entry());
        // Nobody was told in which of the callbacks: most likely in the one that now dies of it.
        guest.quota.keep(denied);
    }
}
