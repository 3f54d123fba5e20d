//! A module with its configuration, alive in one instance: root context, start, configure, tick, callout completions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::effects::{CallId, Effect};
use crate::error::Trap;
use crate::limits::Limits;
use crate::module::Module;
use crate::services::{QueueId, Services};
use crate::state::{ResponseHead, StreamKey, Streams};

/// What an instance is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSpec {
    /// `namespace/name` of the filter; `plugin_name`.
    pub name: Arc<str>,
    /// `plugin_root_id`; Envoy's root_id, Istio's pluginName.
    pub root_id: String,
    /// Scope of shared data and queues; `plugin_vm_id`.
    pub vm_id: String,
    /// What `proxy_on_vm_start` reads.
    pub vm_configuration: Bytes,
    /// What `proxy_on_configure` reads.
    pub configuration: Bytes,
    /// WASI environment.
    pub environment: Vec<(String, String)>,
    /// Budgets.
    pub limits: Limits,
    /// Envoy's `allow_on_headers_stop_iteration`: true makes Pause in a headers callback hold the headers only.
    pub allow_on_headers_stop_iteration: bool,
}

/// A point in an exchange at which a filter may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// `proxy_on_request_headers`
    RequestHeaders,
    /// `proxy_on_request_body`
    RequestBody,
    /// `proxy_on_request_trailers`
    RequestTrailers,
    /// `proxy_on_response_headers`
    ResponseHeaders,
    /// `proxy_on_response_body`
    ResponseBody,
    /// `proxy_on_response_trailers`
    ResponseTrailers,
}

/// What the guest's return value means in the phase it was called in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Pass on what the callback saw (and what was held back before).
    Continue,
    /// Headers: hold them, and do not call later phases of this direction until resumed; the body waits in the filter's
    /// buffer, and too much of it is an error. Body and trailers: hold; body callbacks go on and see all that is held.
    Pause,
    /// As `Pause`, but too much body is back-pressure instead of an error.
    PauseWatermark,
    /// Headers only, with `allow_on_headers_stop_iteration`: hold the headers, go on calling body phases.
    PauseHeaders,
    /// Body only: the guest has taken the chunk, drop it.
    Drop,
    /// Headers only: pass the headers on as the end of the stream, drop the rest.
    EndStream,
}

/// A context of one exchange inside one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextId(pub u32);

/// How a callout ended.
#[derive(Debug)]
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

/// A module with its configuration, alive.
///
/// After a method has returned a [`Trap`] the instance is dead: every later call returns the same error at once.
pub struct Plugin;

#[allow(unused_variables, missing_docs, reason = "stub")]
impl Plugin {
    /// Instantiates, runs start-up code, creates the root context, starts and configures, within `limits.start`.
    /// Effects of these callbacks are there to be taken. Never call on a worker thread.
    pub fn start(
        module: &Module,
        spec: Arc<PluginSpec>,
        services: Box<dyn Services>,
    ) -> Result<Plugin, Trap> {
        todo!()
    }
    pub fn spec(&self) -> &Arc<PluginSpec> {
        todo!()
    }
    /// Whether the module exports the callback of this phase; if not, it need not be called.
    pub fn handles(&self, phase: Phase) -> bool {
        todo!()
    }
    pub fn create_context(
        &mut self,
        streams: &mut Streams,
        stream: StreamKey,
    ) -> Result<ContextId, Trap> {
        todo!()
    }
    /// Calls the guest for one phase. Body size and header counts are read off the stream.
    pub fn run(
        &mut self,
        streams: &mut Streams,
        context: ContextId,
        phase: Phase,
        end_of_stream: bool,
    ) -> Result<Action, Trap> {
        todo!()
    }
    /// `proxy_on_log`, `proxy_on_done`, `proxy_on_delete`, in this order; the context is gone afterwards.
    pub fn finish(&mut self, streams: &mut Streams, context: ContextId) -> Result<(), Trap> {
        todo!()
    }
    pub fn tick(&mut self, streams: &mut Streams) -> Result<(), Trap> {
        todo!()
    }
    pub fn queue_ready(&mut self, streams: &mut Streams, queue: QueueId) -> Result<(), Trap> {
        todo!()
    }
    /// Delivers the one completion of a callout. An id that is not outstanding is ignored.
    pub fn http_call_response(
        &mut self,
        streams: &mut Streams,
        call: CallId,
        outcome: CallOutcome,
    ) -> Result<(), Trap> {
        todo!()
    }
    /// Callouts without a completion yet.
    pub fn outstanding_calls(&self) -> usize {
        todo!()
    }
    /// Takes the next effect of the callbacks so far, oldest first.
    pub fn next_effect(&mut self) -> Option<Effect> {
        todo!()
    }
    /// Asks the root context to end (`proxy_on_done`). False: wait for [`Effect::Done`], then call `delete`.
    pub fn done(&mut self, streams: &mut Streams) -> Result<bool, Trap> {
        todo!()
    }
    /// `proxy_on_log` and `proxy_on_delete` of the root context; consumes the instance.
    pub fn delete(self, streams: &mut Streams) {
        todo!()
    }
    /// Period that the guest has asked for, if it has a timer.
    pub fn tick_period(&self) -> Option<Duration> {
        todo!()
    }
    /// Exchanges that hold a context.
    pub fn contexts(&self) -> usize {
        todo!()
    }
    /// Bytes of linear memory.
    pub fn memory_bytes(&self) -> usize {
        todo!()
    }
    /// Why the instance is dead, if it is.
    pub fn trap(&self) -> Option<&Trap> {
        todo!()
    }
}
