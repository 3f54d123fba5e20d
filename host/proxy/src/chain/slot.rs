//! One filter on one worker: its instance, calls of it, and its end. What callbacks ask for is carried out by `effects`, a dead
//! instance replaced by `renewal`.
//! Nothing in this module waits while the
//! instance or the streams are borrowed.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use portcullis_vm::{Action, CallId, ContextId, Phase, Phases, Plugin, StreamKey, Streams, Trap};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::chain::builder::Builder;
use crate::chain::callouts::Callouts;
use crate::chain::instance::{Live, Timer};
use crate::chain::local::{Local, Signal};
use crate::chain::pool::Pool;
use crate::chain::root::Pace;
use crate::now;
use crate::services::{Upstreams, World};
use crate::snapshot::{Filter, Isolation};

/// How long a retired root context may put off its end.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(60);

/// Names a slot within its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId(pub u64);

/// Whether a filter can take a new exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// By the instance with this number.
    Ready(u64),
    /// Not now: its instance is being replaced, or all its instances serve other exchanges.
    Awaited,
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
    /// When the guest wants to be called.
    pub phases: Phases,
}

/// One filter on one worker.
pub struct Slot {
    /// Names it in signals.
    pub id: SlotId,
    /// What it runs.
    pub filter: Arc<Filter>,
    /// Serves all exchanges; with `isolation: EXCLUSIVE` none, but timer and queues.
    pub(super) shared: RefCell<Option<Live>>,
    /// With `isolation: EXCLUSIVE`: serve one exchange each.
    pub(super) pool: Option<RefCell<Pool>>,
    pub(super) keeping: Cell<bool>,
    pub(super) replacing: Cell<bool>,
    instances: Cell<u64>,
    generations: Cell<usize>,
    pub(super) callouts: Callouts,
    pub(super) world: World,
    pub(super) local: Rc<Local>,
    pub(super) builder: Builder,
    pub(super) queue_watch: RefCell<Option<Timer>>,
    pub(super) pace: Pace,
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
        let pool = match world.running.filter.isolation {
            Isolation::Shared => None,
            Isolation::Exclusive(limits) => Some(RefCell::new(Pool::new(limits, &world.running))),
        };
        let slot = Rc::new(Slot {
            id,
            filter: world.running.filter.clone(),
            shared: RefCell::new(None),
            pool,
            keeping: Cell::new(false),
            replacing: Cell::new(false),
            instances: Cell::new(0),
            generations: Cell::new(0),
            callouts: Callouts::new(upstreams, world.running.filter.plugin.limits.memory),
            world,
            local,
            builder,
            queue_watch: RefCell::new(None),
            pace: Pace::default(),
        });
        match slot.pool {
            Some(_) => slot.open_pool(plugin),
            None => slot.install(plugin),
        }
        slot.watch_queues();
        slot
    }

    /// Has an exchange enter. If it has to wait, it is told by [`Signal::Ready`] or [`Signal::Unready`].
    pub fn claim(self: &Rc<Slot>, stream: StreamKey) -> Availability {
        match self.pool {
            Some(_) => self.claim_own(stream),
            None => self.availability(),
        }
    }

    /// Whether a callout that the instance with this number made for an exchange is on the way.
    pub fn awaits_call(&self, number: u64, stream: StreamKey) -> bool {
        self.look(number, |live| live.plugin.awaits_call(stream)).unwrap_or(false)
    }

    /// The exchange that a callout of the instance with this number was made for, while both live.
    pub(super) fn made_for(&self, number: u64, call: CallId) -> Option<StreamKey> {
        self.look(number, |live| live.plugin.made_for(call)).flatten()
    }

    /// An instance for the log phase of an exchange that the filter has not seen, if one is at hand.
    pub fn claim_late(&self, stream: StreamKey) -> Option<u64> {
        if !self.exports(&["proxy_on_log"]) {
            return None;
        }
        match (&self.pool, self.availability()) {
            (Some(_), _) => self.claim_free(stream),
            (None, Availability::Ready(number)) => Some(number),
            (None, _) => None,
        }
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
        let called = self.with(number, |live| {
            let result = self.local.with_streams(|streams| run(&mut live.plugin, streams));
            if live.plugin.has_effects() {
                self.carry_out_all(live);
            }
            live.note_memory();
            result
        });
        now::moved_on();
        match called.ok_or(Gone)? {
            Ok(value) => {
                if self.pool.is_some() {
                    self.settle(number);
                }
                Ok(value)
            }
            Err(trap) => {
                self.trapped(&trap, number);
                Err(Gone)
            }
        }
    }

    /// Gives an exchange a context in the instance with this number, and calls the guest with its head.
    ///
    /// # Errors
    /// The instance is gone, or has trapped just now.
    pub fn seat(
        self: &Rc<Slot>,
        instance: u64,
        stream: StreamKey,
        head: Phase,
        end: bool,
    ) -> Result<(Seat, Action), Gone> {
        self.world.running.health.exchanges.increment();
        self.call(instance, |plugin, streams| {
            let phases = plugin.phases();
            let (context, action) = plugin.open(streams, stream, head, end)?;
            Ok((Seat { instance, context, phases }, action))
        })
    }

    /// Gives a context to an exchange that the filter has not seen and that is over.
    ///
    /// # Errors
    /// As [`seat`](Self::seat).
    pub fn seat_late(self: &Rc<Slot>, instance: u64, stream: StreamKey) -> Result<Seat, Gone> {
        self.call(instance, |plugin, streams| {
            let phases = plugin.phases();
            let context = plugin.create_context(streams, stream)?;
            Ok(Seat { instance, context, phases })
        })
    }

    /// One more generation uses the filter.
    pub fn adopt(&self) {
        self.generations.set(self.generations.get() + 1);
    }

    /// One generation fewer uses the filter; after the last one its plugins end.
    pub fn release(self: Rc<Slot>) {
        self.generations.set(self.generations.get().saturating_sub(1));
        if self.generations.get() > 0 {
            return;
        }
        self.end_all(self.close());
    }

    /// Ends every plugin, one after the other, before the process ends. Cancel safe: the others are dropped with the slot.
    pub async fn end_now(self: Rc<Slot>) {
        for number in self.close() {
            self.clone().end(number).await;
        }
    }

    /// No exchange enters any more. What is to be ended.
    fn close(&self) -> Vec<u64> {
        let mut numbers = self.pool(Pool::close).unwrap_or_default();
        numbers.extend(self.shared_number());
        numbers
    }

    /// Ends the plugins in the instances with these numbers. Others have their turns in between.
    pub(super) fn end_all(self: &Rc<Slot>, numbers: Vec<u64>) {
        let slot = self.clone();
        self.local.spawn(async move {
            for number in numbers {
                slot.local.spawn(slot.clone().end(number));
                yield_now().await;
            }
        });
    }

    /// The end of the plugin in the instance with this number, which it may put off.
    async fn end(self: Rc<Slot>, number: u64) {
        let Some(done) = self.look(number, |live| live.done.clone()) else { return };
        let ended = self.call(number, |plugin, streams| plugin.done(streams));
        if matches!(ended, Ok(false)) && timeout(RETIRE_TIMEOUT, done.notified()).await.is_err() {
            tracing::warn!(filter = %self.filter.name, "the filter put off its end for too long and is dropped");
        }
        if self.call(number, |plugin, streams| plugin.fail_calls(streams)).is_err() {
            tracing::debug!(filter = %self.filter.name, "the filter ended before its callouts");
        }
        self.callouts.abandon(number);
        let live = match self.shared_number() == Some(number) {
            true => self.shared.borrow_mut().take(),
            false => self.pool(|pool| pool.remove(number)).flatten().map(|(live, _)| live),
        };
        if let Some(live) = live {
            self.local.with_streams(|streams| live.delete(streams));
        }
        self.grow();
    }

    /// Whether no generation uses the filter any more.
    pub(super) fn is_retired(&self) -> bool {
        self.generations.get() == 0
    }

    /// The number of the instance that exchanges share, or that has timer and queues.
    pub(super) fn shared_number(&self) -> Option<u64> {
        self.shared.borrow().as_ref().map(|live| live.number)
    }

    /// Counts a new instance.
    pub(super) fn number(&self, plugin: Plugin) -> Live {
        self.instances.set(self.instances.get() + 1);
        Live::new(plugin, self.instances.get(), &self.world.running)
    }

    /// Has the instance serve all exchanges or, with `isolation: EXCLUSIVE`, timer and queues.
    pub(super) fn install(self: &Rc<Slot>, plugin: Plugin) {
        let mut live = self.number(plugin);
        self.replacing.set(false);
        self.carry_out_all(&mut live);
        *self.shared.borrow_mut() = Some(live);
        if self.pool.is_none() {
            self.local.post_all(|| Signal::Ready(self.id));
        }
        // Elements that have come while nobody was there.
        self.world.inbox.arrived.notify_one();
    }

    /// Whether the module has one of these callbacks.
    pub(super) fn exports(&self, callbacks: &[&str]) -> bool {
        let exports = &self.filter.module.inspection().exports;
        callbacks.iter().any(|callback| exports.iter().any(|export| export.name == *callback))
    }

    fn availability(&self) -> Availability {
        if self.world.running.health.is_suspended_now() {
            return Availability::Suspended;
        }
        self.shared_number().map_or(Availability::Awaited, Availability::Ready)
    }

    fn look<T>(&self, number: u64, read: impl FnOnce(&Live) -> T) -> Option<T> {
        if let Some(live) = self.shared.borrow().as_ref().filter(|live| live.number == number) {
            return Some(read(live));
        }
        self.pool.as_ref()?.borrow().get(number).map(read)
    }

    fn with<T>(&self, number: u64, run: impl FnOnce(&mut Live) -> T) -> Option<T> {
        if let Some(live) = self.shared.borrow_mut().as_mut().filter(|live| live.number == number) {
            return Some(run(live));
        }
        self.pool.as_ref()?.borrow_mut().get_mut(number).map(run)
    }

    #[cold]
    fn trapped(self: &Rc<Slot>, trap: &Trap, number: u64) {
        tracing::error!(
            filter = %self.filter.name,
            reason = trap.reason.as_str(),
            backtrace = %trap.backtrace.join(" < "),
            "filter trapped: {trap}"
        );
        self.callouts.abandon(number);
        if self.pool.is_some() {
            return self.own_trapped(trap, number);
        }
        drop(self.shared.borrow_mut().take());
        self.local.post_all(|| Signal::Trapped(self.id, number));
        let pause = self.world.running.health.record_trap(trap, Instant::now(), SystemTime::now());
        self.replace(pause.unwrap_or_default());
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
