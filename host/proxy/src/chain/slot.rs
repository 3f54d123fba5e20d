//! One filter on one worker: its instance, the replacement of a dead one, its timer and its queues.
//!
//! A callback's effects are carried out here, after the callback has returned. Nothing in this module waits while the
//! instance or the streams are borrowed.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use portcullis_vm::{CallId, ContextId, Effect, Phase, Plugin, StreamKey, Streams, Trap};
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{sleep, timeout};

use crate::chain::builder::Builder;
use crate::chain::callouts::Callouts;
use crate::chain::local::{Local, Signal};
use crate::observe::Gauge;
use crate::services::{Replacing, Upstreams, World};
use crate::snapshot::Filter;

/// How long a retired root context may put off its end.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(60);
/// Shortest wait before an instance that died is built again after its successor failed to start.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Shortest period of a guest's timer: whatever a tick costs, a worker has at least this long for other work between two.
const SHORTEST_TICK: Duration = Duration::from_millis(10);

/// Names a slot within its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId(pub u64);

/// Whether a filter can take a new exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// By the instance with this number.
    Ready(u64),
    /// Not now: its instance is being replaced.
    Replacing,
    /// It trapped too often; its `failStrategy` answers.
    Suspended,
}

/// Why a guest could not be called.
#[derive(Debug)]
pub struct Gone;

/// A context of an exchange in an instance.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// The instance's number.
    pub instance: u64,
    /// The context in it.
    pub context: ContextId,
}

/// One filter on one worker.
pub struct Slot {
    /// Names it in signals.
    pub id: SlotId,
    /// What it runs.
    pub filter: Arc<Filter>,
    live: RefCell<Option<Live>>,
    instances: Cell<u64>,
    generations: Cell<usize>,
    pub(super) callouts: Callouts,
    world: World,
    pub(super) local: Rc<Local>,
    builder: Builder,
    tick: RefCell<Option<AbortHandle>>,
    queue_watch: RefCell<Option<AbortHandle>>,
    done: Notify,
}

struct Live {
    plugin: Plugin,
    number: u64,
    memory: i64,
}

impl Live {
    /// Keeps the gauge at the sum of all instances.
    fn note_memory(&mut self, gauge: &Gauge) {
        let now = i64::try_from(self.plugin.memory_bytes()).unwrap_or(i64::MAX);
        if now != self.memory {
            gauge.add(now - self.memory);
            self.memory = now;
        }
    }
}

impl Slot {
    /// Takes a started plugin into service.
    pub fn new(
        id: SlotId,
        plugin: Plugin,
        world: World,
        upstreams: Rc<Upstreams>,
        local: Rc<Local>,
        builder: Builder,
    ) -> Rc<Slot> {
        let slot = Rc::new(Slot {
            id,
            filter: world.running.filter.clone(),
            live: RefCell::new(None),
            instances: Cell::new(0),
            generations: Cell::new(0),
            callouts: Callouts::new(upstreams),
            world,
            local,
            builder,
            tick: RefCell::new(None),
            queue_watch: RefCell::new(None),
            done: Notify::new(),
        });
        slot.install(plugin);
        slot.watch_queues();
        slot
    }

    /// Whether a new exchange may enter.
    pub fn availability(&self) -> Availability {
        if self.world.running.health.is_suspended(Instant::now()) {
            return Availability::Suspended;
        }
        match self.live.borrow().as_ref() {
            Some(live) => Availability::Ready(live.number),
            None => Availability::Replacing,
        }
    }

    /// Whether the instance with this number is alive.
    pub fn is_alive(&self, number: u64) -> bool {
        self.live.borrow().as_ref().is_some_and(|live| live.number == number)
    }

    /// Whether the guest wants to be called in this phase.
    pub fn handles(&self, phase: Phase) -> bool {
        self.live.borrow().as_ref().is_some_and(|live| live.plugin.handles(phase))
    }

    /// Whether a callout that the instance with this number made for an exchange is on the way.
    pub fn awaits_call(&self, number: u64, stream: StreamKey) -> bool {
        let live = self.live.borrow();
        live.as_ref().is_some_and(|live| live.number == number && live.plugin.awaits_call(stream))
    }

    /// The exchange that a callout of the instance with this number was made for, while both live.
    pub(super) fn made_for(&self, number: u64, call: CallId) -> Option<StreamKey> {
        let live = self.live.borrow();
        live.as_ref().filter(|live| live.number == number)?.plugin.made_for(call)
    }

    /// An exchange met the filter while it could not run. `outcome`: `skipped` or `failed`.
    pub fn note_unavailable(&self, outcome: &str) {
        self.world.running.note_unavailable(outcome);
    }

    /// Takes the filter into the service of a new generation: gives it its upstreams, and the queues it has registered.
    pub fn activate(&self, upstreams: Rc<Upstreams>) {
        self.world.open_queues();
        self.world.set_upstream_names(upstreams.names());
        self.callouts.set_upstreams(upstreams);
    }

    /// Runs a callback in the instance with this number and carries out its effects. A trap kills the instance and fails
    /// every exchange that holds a context in it.
    ///
    /// # Errors
    /// The instance is gone, or has trapped just now.
    pub fn call<T>(
        self: &Rc<Slot>,
        number: u64,
        run: impl FnOnce(&mut Plugin, &mut Streams) -> Result<T, Trap>,
    ) -> Result<T, Gone> {
        let mut guard = self.live.borrow_mut();
        let live = guard.as_mut().filter(|live| live.number == number).ok_or(Gone)?;
        let result = self.local.with_streams(|streams| run(&mut live.plugin, streams));
        while let Some(effect) = live.plugin.next_effect() {
            self.carry_out(effect, number);
        }
        match result {
            Ok(value) => {
                live.note_memory(&self.world.running.memory);
                Ok(value)
            }
            Err(trap) => {
                let dead = guard.take();
                drop(guard);
                self.unload(dead);
                self.trapped(&trap, number);
                Err(Gone)
            }
        }
    }

    /// Gives an exchange a context in the instance with this number.
    ///
    /// # Errors
    /// The instance is gone, or has trapped just now.
    pub fn seat(self: &Rc<Slot>, instance: u64, stream: StreamKey) -> Result<Seat, Gone> {
        let context =
            self.call(instance, |plugin, streams| plugin.create_context(streams, stream))?;
        self.world.running.health.exchanges.increment();
        Ok(Seat { instance, context })
    }

    /// One more generation uses the filter.
    pub fn adopt(&self) {
        self.generations.set(self.generations.get() + 1);
    }

    /// One generation fewer uses the filter; after the last one the plugin ends.
    pub fn release(self: Rc<Slot>) {
        self.generations.set(self.generations.get().saturating_sub(1));
        if self.generations.get() == 0 {
            let local = self.local.clone();
            local.spawn(self.retire());
        }
    }

    async fn retire(self: Rc<Slot>) {
        let Some(number) = self.live.borrow().as_ref().map(|live| live.number) else { return };
        let ended = self.call(number, |plugin, streams| plugin.done(streams));
        if matches!(ended, Ok(false))
            && timeout(RETIRE_TIMEOUT, self.done.notified()).await.is_err()
        {
            tracing::warn!(filter = %self.filter.name, "the filter put off its end for too long and is dropped");
        }
        if self.call(number, |plugin, streams| plugin.fail_calls(streams)).is_err() {
            tracing::debug!(filter = %self.filter.name, "the filter ended before its callouts");
        }
        self.stop_tick();
        let live = self.live.borrow_mut().take();
        if let Some(Live { plugin, memory, .. }) = live {
            self.world.running.memory.add(-memory);
            self.world.running.instances.add(-1);
            self.local.with_streams(|streams| plugin.delete(streams));
        }
    }

    fn install(self: &Rc<Slot>, mut plugin: Plugin) {
        let number = self.instances.get() + 1;
        self.instances.set(number);
        let mut effects = Vec::new();
        while let Some(effect) = plugin.next_effect() {
            effects.push(effect);
        }
        let mut live = Live { plugin, number, memory: 0 };
        live.note_memory(&self.world.running.memory);
        self.world.running.instances.add(1);
        *self.live.borrow_mut() = Some(live);
        effects.into_iter().for_each(|effect| self.carry_out(effect, number));
        self.local.post_all(|| Signal::Ready(self.id));
    }

    fn trapped(self: &Rc<Slot>, trap: &Trap, number: u64) {
        tracing::error!(
            filter = %self.filter.name,
            reason = trap.reason.as_str(),
            backtrace = %trap.backtrace.join(" < "),
            "filter trapped: {trap}"
        );
        self.stop_tick();
        self.local.post_all(|| Signal::Trapped(self.id, number));
        let pause = self.world.running.health.record_trap(trap, Instant::now(), SystemTime::now());
        let replacing = Replacing::begin(&self.world.running);
        self.replace(pause.unwrap_or_default(), replacing);
    }

    fn unload(&self, dead: Option<Live>) {
        if let Some(live) = dead {
            self.world.running.memory.add(-live.memory);
            self.world.running.instances.add(-1);
        }
    }

    /// Has a new instance built after a pause, and takes it into service.
    fn replace(self: &Rc<Slot>, pause: Duration, replacing: Replacing) {
        let weak = Rc::downgrade(self);
        let (filter, world, builder) =
            (self.filter.clone(), self.world.clone(), self.builder.clone());
        self.local.spawn(async move {
            sleep(pause).await;
            if weak.strong_count() == 0 {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            builder.build(filter, world.services(), move |built| drop(sender.send(built)));
            let (Ok(built), Some(slot)) = (receiver.await, weak.upgrade()) else { return };
            match built {
                Ok(plugin) => {
                    drop(replacing);
                    slot.install(plugin);
                }
                Err(trap) => {
                    tracing::error!(filter = %slot.filter.name, "filter could not be started again: {trap}");
                    let health = &slot.world.running.health;
                    let pause = health.record_trap(&trap, Instant::now(), SystemTime::now());
                    slot.local.post_all(|| Signal::Unready(slot.id));
                    slot.replace(pause.unwrap_or_default().max(RESTART_PAUSE), replacing);
                }
            }
        });
    }

    fn carry_out(self: &Rc<Slot>, effect: Effect, number: u64) {
        match effect {
            Effect::Continue(key, direction) => {
                self.local.post(key, Signal::Continue(self.id, direction))
            }
            Effect::Close(key) => self.local.post(key, Signal::Close(self.id)),
            Effect::Reply(key, reply) => self.local.post(key, Signal::Reply(self.id, reply)),
            Effect::HttpCall(call) => self.start_call(call, number),
            Effect::TickPeriod(period) => self.set_tick(period, number),
            Effect::Done => self.done.notify_one(),
            other => {
                tracing::warn!(filter = %self.filter.name, "effect without meaning here: {other:?}")
            }
        }
    }

    fn set_tick(self: &Rc<Slot>, period: Duration, number: u64) {
        self.stop_tick();
        if period.is_zero() {
            return;
        }
        let period = period.max(SHORTEST_TICK);
        let weak = Rc::downgrade(self);
        let task = self.local.spawn(async move {
            loop {
                sleep(period).await;
                let Some(slot) = weak.upgrade() else { return };
                if slot.call(number, |plugin, streams| plugin.tick(streams)).is_err() {
                    return;
                }
            }
        });
        *self.tick.borrow_mut() = task;
    }

    fn stop_tick(&self) {
        if let Some(task) = self.tick.borrow_mut().take() {
            task.abort();
        }
    }

    fn watch_queues(self: &Rc<Slot>) {
        let weak = Rc::downgrade(self);
        let inbox = self.world.inbox.clone();
        let task = self.local.spawn(async move {
            loop {
                inbox.arrived.notified().await;
                while let Some(queue) = inbox.next() {
                    let Some(slot) = weak.upgrade() else { return };
                    let number = slot.instances.get();
                    if slot.call(number, |plugin, streams| plugin.queue_ready(streams, queue)).is_err() {
                        tracing::debug!(filter = %slot.filter.name, "a queue element arrived without an instance");
                    }
                    // A guest may put back more than it takes.
                    yield_now().await;
                }
            }
        });
        *self.queue_watch.borrow_mut() = task;
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("id", &self.id)
            .field("filter", &self.filter.name)
            .finish_non_exhaustive()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.stop_tick();
        if let Some(task) = self.queue_watch.get_mut().take() {
            task.abort();
        }
        let dead = self.live.get_mut().take();
        self.unload(dead);
    }
}
