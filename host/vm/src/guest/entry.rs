//! What the host sets up before it enters the guest.

use super::{Guest, Moment};
use crate::effects::ContextId;

/// What a callback is: its name, where in the guest's life it stands, and whose context it is for.
pub(crate) struct Entry {
    pub(crate) callback: &'static str,
    pub(crate) moment: Moment,
    /// `None`: the root context.
    pub(crate) context: Option<ContextId>,
}

impl Entry {
    /// A callback of the root context.
    pub(crate) fn root(callback: &'static str) -> Entry {
        Entry { callback, moment: Moment::Root, context: None }
    }
}

impl Guest {
    /// A callback begins: what belonged to the one before is forgotten.
    pub(crate) fn begin(&mut self, entry: &Entry) {
        let moment = entry.moment;
        self.callback = entry.callback;
        self.moment = moment;
        self.effects_before = self.effects.len();
        self.contexts.enter(entry.context);
        if !matches!(moment, Moment::StartUp | Moment::VmStart | Moment::Configure) {
            self.budget.reset();
            self.quota.reset();
            self.notes.clear();
        }
    }
}
