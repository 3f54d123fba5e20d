//! What is counted of instances that serve one exchange at a time (`isolation: EXCLUSIVE`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Running;
use crate::observe::families::{FILTER_IDLE, FILTER_WAITING, FILTER_WAITS};
use crate::observe::{Counter, Gauge, PoolStatus, Registry, SharedUse};
use crate::snapshot::{Filter, InstanceLimits, Isolation};

/// The counters of one filter's instances, on all workers.
#[derive(Debug)]
pub struct Tenancies {
    limits: InstanceLimits,
    idle: Gauge,
    waiting: Gauge,
    served: Counter,
    expired: Counter,
    ticks: AtomicBool,
    queues: AtomicBool,
}

impl Tenancies {
    /// `None` for a filter whose exchanges share an instance.
    pub fn of(filter: &Filter, generation: &str, registry: &Registry) -> Option<Tenancies> {
        let Isolation::Exclusive(limits) = filter.isolation else { return None };
        let name = &*filter.name;
        Some(Tenancies {
            limits,
            idle: registry.series(&FILTER_IDLE, [name, generation]),
            waiting: registry.series(&FILTER_WAITING, [name, generation]),
            served: registry.series(&FILTER_WAITS, [name, "served"]),
            expired: registry.series(&FILTER_WAITS, [name, "expired"]),
            ticks: AtomicBool::new(false),
            queues: AtomicBool::new(false),
        })
    }

    /// Why an instance that no exchange has is kept.
    pub fn shares(&self, reason: SharedUse) {
        match reason {
            SharedUse::Ticks => self.ticks.store(true, Ordering::Relaxed),
            SharedUse::Queues => self.queues.store(true, Ordering::Relaxed),
        }
    }

    /// For the status.
    pub fn status(&self) -> PoolStatus {
        let count = |gauge: &Gauge| usize::try_from(gauge.get()).unwrap_or(0);
        PoolStatus {
            bound_per_worker: self.limits.instances,
            idle: count(&self.idle),
            waiting: count(&self.waiting),
            expired: self.expired.get(),
        }
    }

    /// Why an instance is kept that no exchange has.
    pub fn shared(&self) -> Vec<SharedUse> {
        let uses = [(&self.ticks, SharedUse::Ticks), (&self.queues, SharedUse::Queues)];
        let so = uses.into_iter().filter(|(flag, _)| flag.load(Ordering::Relaxed));
        so.map(|(_, reason)| reason).collect()
    }
}

/// What one worker adds to the counters, for as long as this exists.
#[derive(Debug)]
pub struct Tenancy {
    running: Arc<Running>,
    idle: usize,
    waiting: usize,
}

impl Tenancy {
    /// Nothing so far.
    pub fn new(running: &Arc<Running>) -> Tenancy {
        Tenancy { running: running.clone(), idle: 0, waiting: 0 }
    }

    /// So many instances are free, and so many exchanges wait for one.
    pub fn note(&mut self, idle: usize, waiting: usize) {
        let Some(all) = &self.running.tenancies else { return };
        let change = |now: usize, before: usize| now as i64 - before as i64;
        all.idle.add(change(idle, self.idle));
        all.waiting.add(change(waiting, self.waiting));
        (self.idle, self.waiting) = (idle, waiting);
    }

    /// An exchange that had waited has got an instance.
    pub fn served(&self) {
        if let Some(all) = &self.running.tenancies {
            all.served.increment();
        }
    }

    /// So many exchanges have waited in vain.
    pub fn expired(&self, count: usize) {
        if let Some(all) = &self.running.tenancies {
            all.expired.add(count as u64);
        }
    }
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        self.note(0, 0);
    }
}
