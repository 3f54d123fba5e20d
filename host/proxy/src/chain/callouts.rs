//! Callouts of one filter on one worker: they are made in tasks of their own, and each ends with exactly one completion, in
//! the instance that made it, unless that is gone.

use std::cell::RefCell;
use std::rc::Rc;

use portcullis_vm::{CallId, CallOutcome, HttpCall};

use crate::chain::local::Signal;
use crate::chain::slot::Slot;
use crate::services::Upstreams;

/// Whom the filter calls.
#[derive(Debug)]
pub(super) struct Callouts {
    upstreams: RefCell<Rc<Upstreams>>,
}

impl Callouts {
    pub(super) fn new(upstreams: Rc<Upstreams>) -> Callouts {
        Callouts { upstreams: RefCell::new(upstreams) }
    }

    /// Calls that begin from now on go to these.
    pub(super) fn set_upstreams(&self, upstreams: Rc<Upstreams>) {
        *self.upstreams.borrow_mut() = upstreams;
    }
}

impl Slot {
    /// Makes a call that the instance with this number asked for.
    pub(super) fn start_call(self: &Rc<Slot>, call: HttpCall, number: u64) {
        let slot = self.clone();
        let upstreams = self.callouts.upstreams.borrow().clone();
        self.local.spawn(async move {
            let id = call.id;
            let outcome = upstreams.call(call).await;
            slot.complete(number, id, outcome);
        });
    }

    fn complete(self: &Rc<Slot>, number: u64, id: CallId, outcome: CallOutcome) {
        let stream = self.made_for(number, id);
        let delivered = self.local.with_held(stream, self.id, || {
            self.call(number, |plugin, streams| plugin.http_call_response(streams, id, outcome))
        });
        if delivered.is_err() {
            tracing::debug!(filter = %self.filter.name, "a callout ended after its instance");
        }
        if let Some(stream) = stream {
            self.local.post(stream, Signal::Answered(self.id));
        }
    }
}
