//! A filter with `isolation: EXCLUSIVE`: how its exchanges come by instances of their own and give them back, and what a
//! trap means there. Who has what is the business of `pool`.
//!
//! A trap concerns one exchange and is no reason to suspend the filter: else whoever finds a request that traps could
//! turn the filter off for everybody. Only starts that fail suspend it, since then there is nothing to run.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use portcullis_vm::{Effect, Plugin, StreamKey, Trap};
use tokio::time::sleep;

use crate::chain::local::Signal;
use crate::chain::pool::Pool;
use crate::chain::slot::{Availability, Slot};
use crate::observe::SharedUse;
use crate::services::Replacing;

/// How often waits and free instances are looked at, while there are any.
const LOOK: Duration = Duration::from_millis(100);
/// Before the instance for timer and queues is built again: no exchange waits for it.
const SHARED_PAUSE: Duration = Duration::from_secs(1);

impl Slot {
    /// The first instance: it is kept for timer and queues if it has asked for some, else it is for an exchange.
    pub(super) fn open_pool(self: &Rc<Slot>, plugin: Plugin) {
        let uses = [
            (plugin.tick_period().is_some(), SharedUse::Ticks),
            (self.world.inbox.has_queues(), SharedUse::Queues),
        ];
        uses.iter().filter(|(so, _)| *so).for_each(|(_, reason)| self.note_shared(*reason));
        match uses.iter().any(|(so, _)| *so) {
            true => self.install(plugin),
            false => self.enlist(plugin),
        }
        self.grow();
    }

    /// An instance for an exchange, or a place among those that wait.
    pub(super) fn claim_own(self: &Rc<Slot>, stream: StreamKey) -> Availability {
        if let Some(number) = self.claim_free(stream) {
            return Availability::Ready(number);
        }
        let now = Instant::now();
        if self.world.running.health.is_suspended(now) {
            return Availability::Suspended;
        }
        self.pool(|pool| pool.wait(stream, now));
        self.grow();
        self.keep();
        Availability::Awaited
    }

    /// An instance that is at hand.
    pub(super) fn claim_free(&self, stream: StreamKey) -> Option<u64> {
        self.pool(|pool| pool.claim(stream)).flatten()
    }

    /// The exchange that had the instance with this number has ended.
    pub fn give_back(self: &Rc<Slot>, number: u64) {
        if self.pool.is_some() {
            self.tell(self.pool(|pool| pool.give_back(number, Instant::now())).flatten());
            self.keep();
        }
    }

    /// The exchange does not wait any more.
    pub fn leave(&self, stream: StreamKey) {
        self.tell(self.pool(|pool| pool.leave(stream, Instant::now())).flatten());
    }

    /// A callback has returned: perhaps the last one that its instance waited for.
    pub(super) fn settle(self: &Rc<Slot>, number: u64) {
        self.tell(self.pool(|pool| pool.settle(number, Instant::now)).flatten());
    }

    pub(super) fn own_trapped(self: &Rc<Slot>, trap: &Trap, number: u64) {
        self.world.running.health.count_trap(trap, SystemTime::now());
        if self.shared_number() == Some(number) {
            drop(self.shared.borrow_mut().take());
            return self.replace(SHARED_PAUSE);
        }
        let owner = self.pool(|pool| pool.remove(number)?.1).flatten();
        if let Some(owner) = owner {
            self.local.post(owner, Signal::Trapped(self.id, number));
        }
        self.grow();
    }

    /// A queue has got elements and nobody is there to be told.
    pub(super) fn share_queues(self: &Rc<Slot>) {
        if self.pool.is_some() && !self.replacing.get() && !self.is_retired() {
            self.note_shared(SharedUse::Queues);
            self.replace(Duration::ZERO);
        }
    }

    /// Has instances built for as long as some are missing.
    pub(super) fn grow(self: &Rc<Slot>) {
        if self.pool(Pool::begins_build) == Some(true) {
            self.raise(Duration::ZERO, None);
        }
    }

    /// Reads or changes the pool, if there is one.
    pub(super) fn pool<T>(&self, run: impl FnOnce(&mut Pool) -> T) -> Option<T> {
        let mut pool = self.pool.as_ref()?.borrow_mut();
        let result = run(&mut pool);
        pool.note();
        Some(result)
    }

    fn raise(self: &Rc<Slot>, pause: Duration, replacing: Option<Replacing>) {
        self.build(pause, move |slot, built| match built {
            Ok(plugin) => {
                drop(replacing);
                slot.enlist(plugin);
                slot.grow();
            }
            Err(trap) => {
                let pause = slot.failed_start(&trap);
                slot.disappoint(slot.pool(Pool::stranded).unwrap_or_default());
                let running = &slot.world.running;
                slot.raise(pause, Some(replacing.unwrap_or_else(|| Replacing::begin(running))));
            }
        });
    }

    /// Takes an instance in. The timer that it set while it started is that of the shared one.
    fn enlist(self: &Rc<Slot>, plugin: Plugin) {
        let mut live = self.number(plugin);
        while let Some(effect) = live.plugin.next_effect() {
            if !matches!(effect, Effect::TickPeriod(_)) {
                self.carry_out(effect, &mut live);
            }
        }
        self.tell(self.pool(|pool| pool.add(live, Instant::now())).flatten());
        self.keep();
    }

    /// Looks after waits and free instances until there are none that time could change.
    fn keep(self: &Rc<Slot>) {
        if self.keeping.get() || self.pool(|pool| pool.needs_time()) != Some(true) {
            return;
        }
        self.keeping.set(true);
        let weak = Rc::downgrade(self);
        self.local.spawn(async move {
            loop {
                sleep(LOOK).await;
                let Some(slot) = weak.upgrade() else { return };
                slot.sweep(Instant::now());
                if slot.pool(|pool| pool.needs_time()) != Some(true) {
                    return slot.keeping.set(false);
                }
            }
        });
    }

    fn sweep(self: &Rc<Slot>, now: Instant) {
        self.disappoint(self.pool(|pool| pool.expired(now)).unwrap_or_default());
        let surplus = self.pool(|pool| pool.surplus(now)).unwrap_or_default();
        if !surplus.is_empty() {
            self.end_all(surplus);
        }
    }

    fn disappoint(&self, streams: Vec<StreamKey>) {
        streams.into_iter().for_each(|stream| self.local.post(stream, Signal::Unready(self.id)));
    }

    fn tell(&self, stream: Option<StreamKey>) {
        if let Some(stream) = stream {
            self.local.post(stream, Signal::Ready(self.id));
        }
    }

    fn note_shared(&self, reason: SharedUse) {
        if let Some(tenancies) = &self.world.running.tenancies {
            tenancies.shares(reason);
        }
    }
}
