//! How callouts end: each has exactly one completion, delivered to the root context.

use bytes::Bytes;
use http::HeaderMap;

use super::Plugin;
use crate::abi::numbers::ROOT_CONTEXT;
use crate::effects::CallId;
use crate::error::Trap;
use crate::guest::Completion;
use crate::hostcalls::View;
use crate::instance::Entry;
use crate::state::{ResponseHead, StreamKey, Streams};

/// What `proxy_get_status` says of an HTTP call that failed.
const RESET: (u32, &str) = (11, "reset");

/// How a callout ended.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "an outcome is moved once, into the plugin")]
pub enum CallOutcome {
    /// The upstream answered, whatever the status.
    Answered {
        /// Its head.
        head: ResponseHead,
        /// Its whole body.
        body: Bytes,
        /// May be empty.
        trailers: HeaderMap,
    },
    /// Time-out, reset, refused, abandoned: the guest sees a completion with zero headers.
    Failed,
}

impl Plugin {
    /// Delivers the one completion of a callout. An id that is not outstanding is ignored.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn http_call_response(
        &mut self,
        streams: &mut Streams,
        call: CallId,
        outcome: CallOutcome,
    ) -> Result<(), Trap> {
        let guest = self.instance.guest_mut();
        if !guest.calls.end(call) {
            return self.trap().map_or(Ok(()), |trap| Err(trap.clone()));
        }
        let completion = match outcome {
            CallOutcome::Answered { head, body, trailers } => {
                Completion { head: Some(head), body, trailers }
            }
            CallOutcome::Failed => {
                guest.status = (RESET.0, RESET.1.to_owned());
                Completion::default()
            }
        };
        let headers = completion.head.as_ref().map_or(0, |head| View::Response(head).len()) as u32;
        let sizes = (completion.body.len() as u32, completion.trailers.len() as u32);
        guest.completion = Some(completion);
        let entry = Entry::root("proxy_on_http_call_response");
        let delivered = self.instance.call(streams, entry, |callbacks, store| {
            let Some(response) = &callbacks.http_call_response else { return Ok(()) };
            response.call(store, (ROOT_CONTEXT, call.0, headers, sizes.0, sizes.1))
        });
        let guest = self.instance.guest_mut();
        guest.completion = None;
        guest.status = (0, String::new());
        delivered
    }

    /// Completes every callout that is on the way as failed: nothing will come of them any more.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn fail_calls(&mut self, streams: &mut Streams) -> Result<(), Trap> {
        for call in self.instance.guest().calls.ids() {
            self.http_call_response(streams, call, CallOutcome::Failed)?;
        }
        Ok(())
    }

    /// Callouts without a completion yet; none once the instance is dead.
    pub fn outstanding_calls(&self) -> usize {
        self.instance.guest().calls.len()
    }

    /// Whether a callout that was made for this exchange has no completion yet.
    pub fn awaits_call(&self, stream: StreamKey) -> bool {
        self.instance.guest().calls.any_for(stream)
    }

    /// The exchange in whose callback an outstanding callout was made; `None` for root callbacks, and once the exchange has
    /// ended.
    pub fn made_for(&self, call: CallId) -> Option<StreamKey> {
        self.instance.guest().calls.made_for(call)
    }
}
