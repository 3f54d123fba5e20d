//! A module with its configuration, alive in one instance: root context, start, configure, tick, callout completions.

mod callouts;

use std::sync::Arc;
use std::time::Duration;

use crate::abi::numbers::ROOT_CONTEXT;
use crate::effects::{ContextId, Effect};
use crate::error::Trap;
use crate::guest::{Budget, Entry, Moment};
use crate::instance::Instance;
use crate::module::Module;
use crate::phase::{Action, Direction, Peer, Phase, Phases};
use crate::services::{QueueId, Services};
use crate::spec::PluginSpec;
use crate::state::{StreamKey, Streams};

pub use callouts::{CallOutcome, GrpcEvent};

/// A module with its configuration, alive.
///
/// After a method has returned a [`Trap`] the instance is dead: every later call returns the same error at once.
pub struct Plugin {
    instance: Instance,
}

impl Plugin {
    /// Instantiates, runs start-up code, creates the root context, starts and configures, within `limits.start`.
    /// Effects of these callbacks are there to be taken. Never call on a worker thread.
    ///
    /// # Errors
    /// The guest trapped, or `proxy_on_vm_start` or `proxy_on_configure` answered no.
    pub fn start(
        module: &Module,
        spec: Arc<PluginSpec>,
        services: Box<dyn Services>,
    ) -> Result<Plugin, Trap> {
        let sizes = [spec.vm_configuration.len() as u32, spec.configuration.len() as u32];
        let mut instance = Instance::new(module, spec, services)?;
        let streams = &mut Streams::default();
        let entry = |callback, moment| Entry { callback, moment, context: None };
        let callback = "proxy_on_context_create";
        instance.call(streams, entry(callback, Moment::StartUp), |callbacks, store| {
            let Some(create) = &callbacks.context_create else { return Ok(()) };
            create.call(store, (ROOT_CONTEXT, 0))
        })?;
        let callback = "proxy_on_vm_start";
        let started =
            instance.call(streams, entry(callback, Moment::VmStart), |callbacks, store| {
                let Some(start) = &callbacks.vm_start else { return Ok(1) };
                start.call(store, (ROOT_CONTEXT, sizes[0]))
            })?;
        if started == 0 {
            return Err(instance.refuse(callback));
        }
        let callback = "proxy_on_configure";
        let entry = entry(callback, Moment::Configure);
        let configured = instance.call(streams, entry, |callbacks, store| {
            let Some(configure) = &callbacks.configure else { return Ok(1) };
            configure.call(store, (ROOT_CONTEXT, sizes[1]))
        })?;
        if configured == 0 {
            return Err(instance.refuse(callback));
        }
        let guest = instance.guest_mut();
        guest.budget = Budget::new(guest.spec.limits.callback);
        Ok(Plugin { instance })
    }

    /// What it was started with.
    pub fn spec(&self) -> &Arc<PluginSpec> {
        &self.instance.guest().spec
    }

    /// The phases whose callback the module exports; in others it need not be called.
    pub fn phases(&self) -> Phases {
        self.instance.callbacks().phases
    }

    /// Tells the guest of a new exchange.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn create_context(
        &mut self,
        streams: &mut Streams,
        stream: StreamKey,
    ) -> Result<ContextId, Trap> {
        self.instance.create_context(streams, stream)
    }

    /// Tells the guest of a new exchange, and calls it for the first phase if it has a callback for that.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn open(
        &mut self,
        streams: &mut Streams,
        stream: StreamKey,
        phase: Phase,
        end_of_stream: bool,
    ) -> Result<(ContextId, Action), Trap> {
        self.instance.open(streams, stream, phase, end_of_stream)
    }

    /// Calls the guest for one phase. Body size and header counts are read off the stream.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn run(
        &mut self,
        streams: &mut Streams,
        context: ContextId,
        phase: Phase,
        end_of_stream: bool,
    ) -> Result<Action, Trap> {
        self.instance.run(streams, context, phase, end_of_stream)
    }

    /// Tells the guest that a connection of a TCP stream has ended: the client's for [`Direction::Request`], the
    /// upstream's for [`Direction::Response`].
    ///
    /// # Errors
    /// The guest trapped.
    pub fn closed(
        &mut self,
        streams: &mut Streams,
        context: ContextId,
        direction: Direction,
        by: Peer,
    ) -> Result<(), Trap> {
        self.instance.closed(streams, context, direction, by)
    }

    /// `proxy_on_log`, `proxy_on_done`, `proxy_on_delete`, in this order, for TCP with the first two exchanged; the
    /// context is gone afterwards, also after a trap.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn finish(&mut self, streams: &mut Streams, context: ContextId) -> Result<(), Trap> {
        self.instance.finish(streams, context)
    }

    /// `proxy_on_tick`
    ///
    /// # Errors
    /// The guest trapped.
    pub fn tick(&mut self, streams: &mut Streams) -> Result<(), Trap> {
        self.instance.call(streams, Entry::root("proxy_on_tick"), |callbacks, store| {
            callbacks.tick.as_ref().map_or(Ok(()), |tick| tick.call(store, ROOT_CONTEXT))
        })
    }

    /// `proxy_on_queue_ready`
    ///
    /// # Errors
    /// The guest trapped.
    pub fn queue_ready(&mut self, streams: &mut Streams, queue: QueueId) -> Result<(), Trap> {
        self.instance.call(streams, Entry::root("proxy_on_queue_ready"), |callbacks, store| {
            let Some(ready) = &callbacks.queue_ready else { return Ok(()) };
            ready.call(store, (ROOT_CONTEXT, queue.0))
        })
    }

    /// Whether the callbacks so far have left an effect to be taken.
    pub fn has_effects(&self) -> bool {
        !self.instance.guest().effects.is_empty()
    }

    /// Takes the next effect of the callbacks so far, oldest first.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.instance.guest_mut().effects.pop_front()
    }

    /// Asks the root context to end (`proxy_on_done`). False: wait for [`Effect::Done`], then call
    /// [`delete`](Self::delete).
    ///
    /// # Errors
    /// The guest trapped.
    pub fn done(&mut self, streams: &mut Streams) -> Result<bool, Trap> {
        self.instance.guest_mut().awaiting_done = true;
        let answer =
            self.instance.call(streams, Entry::root("proxy_on_done"), |callbacks, store| {
                callbacks.done.as_ref().map_or(Ok(1), |done| done.call(store, ROOT_CONTEXT))
            })?;
        self.instance.guest_mut().awaiting_done &= answer == 0;
        Ok(answer != 0)
    }

    /// `proxy_on_log` and `proxy_on_delete` of the root context; consumes the instance, so a trap changes nothing.
    pub fn delete(mut self, streams: &mut Streams) {
        let logged =
            self.instance.call(streams, Entry::root("proxy_on_log"), |callbacks, store| {
                callbacks.log.as_ref().map_or(Ok(()), |log| log.call(store, ROOT_CONTEXT))
            });
        let deleted = logged.and_then(|()| {
            self.instance.call(streams, Entry::root("proxy_on_delete"), |callbacks, store| {
                callbacks.delete.as_ref().map_or(Ok(()), |delete| delete.call(store, ROOT_CONTEXT))
            })
        });
        if let Err(trap) = deleted {
            tracing::debug!(filter = %self.spec().name, %trap, "trap while deleting a plugin");
        }
    }

    /// Period that the guest has asked for, if it has a timer.
    pub fn tick_period(&self) -> Option<Duration> {
        self.instance.guest().tick_period
    }

    /// Exchanges that hold a context.
    pub fn contexts(&self) -> usize {
        self.instance.guest().contexts.len()
    }

    /// Bytes of linear memory.
    pub fn memory_bytes(&self) -> usize {
        self.instance.memory_bytes()
    }

    /// Why the instance is dead, if it is.
    pub fn trap(&self) -> Option<&Trap> {
        self.instance.trap()
    }
}
