//! The state of the data plane in words: what `/status` shows, and the health of each filter.
//!
//! [`FilterHealth`] decides when a filter that keeps dying is no longer run. It is told the time and asks no clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use portcullis_vm::Trap;
use serde::Serialize;

use super::families::{FILTER_EXCHANGES, FILTER_SUSPENDED, FILTER_TRAPS, GUEST_METRICS_REFUSED};
use super::metrics::{Counter, Gauge, Registry};
use super::time::rfc3339;
use crate::snapshot::Filter;

/// The data plane at one moment. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What new exchanges see.
    pub generation: u64,
    /// Worker threads.
    pub workers: usize,
    /// Open client connections.
    pub connections: usize,
    /// Exchanges that have begun and not ended.
    pub exchanges: usize,
    /// By name.
    pub listeners: Vec<ListenerStatus>,
    /// By name.
    pub filters: Vec<FilterStatus>,
    /// The live one and those that still drain, oldest first.
    pub generations: Vec<GenerationStatus>,
}

/// One listener.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Where it is bound.
    pub address: String,
    /// Open client connections.
    pub connections: usize,
}

/// One generation.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationStatus {
    /// Its number.
    pub generation: u64,
    /// Exchanges that began in it and have not ended.
    pub exchanges: usize,
    /// Filter instances that it keeps alive.
    pub instances: usize,
}

/// Whether a filter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FilterState {
    /// It does.
    Live,
    /// At least one worker waits for a new instance.
    Replacing,
    /// Too many traps; its `failStrategy` answers.
    Suspended,
}

/// One filter.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterStatus {
    /// `namespace/name`
    pub name: String,
    /// As the document names it.
    pub url: String,
    /// SHA-256 of the module.
    pub digest: String,
    /// Since when this module runs with this configuration.
    pub since: String,
    /// Whether it runs.
    pub state: FilterState,
    /// `SHARED` or `EXCLUSIVE`.
    pub isolation: &'static str,
    /// With `EXCLUSIVE`: the instances that exchanges have for themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolStatus>,
    /// With `EXCLUSIVE`: why one more instance is there, that no exchange has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shared_instance: Vec<SharedUse>,
    /// Live instances on all workers.
    pub instances: usize,
    /// Their linear memory.
    pub memory_bytes: usize,
    /// Exchanges that it saw.
    pub exchanges: u64,
    /// Metrics that it defined beyond its limit, if any: they are folded or do nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_refused: Option<u64>,
    /// Instances that died, by reason.
    pub traps: BTreeMap<&'static str, u64>,
    /// The latest of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_trap: Option<LastTrap>,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended_until: Option<String>,
}

/// Instances that serve one exchange at a time.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// `limits.instances`: the most that a worker has.
    pub bound_per_worker: usize,
    /// Those that no exchange has, on all workers.
    pub idle: usize,
    /// Exchanges that wait for one.
    pub waiting: usize,
    /// Exchanges that have waited in vain.
    pub expired: u64,
}

/// What an instance is kept for that no exchange has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SharedUse {
    /// The timer that the module set while it started.
    Ticks,
    /// The queues that it has registered.
    Queues,
}

/// How an instance died.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastTrap {
    /// When.
    pub time: String,
    /// `cpu`, `memory`, `panic`, `trap` or `refused`.
    pub reason: &'static str,
    /// What happened, in which callback.
    pub message: String,
    /// Guest frames with function names, innermost first.
    pub backtrace: Vec<String>,
}

/// The health of one filter, shared by all workers: after [`FilterHealth::TRAPS`] traps within
/// [`FilterHealth::WINDOW`] the filter is suspended, each time for twice as long, up to [`FilterHealth::LONGEST`];
/// after [`FilterHealth::QUIET`] of running without a trap the first suspension is short again.
#[derive(Debug)]
pub struct FilterHealth {
    filter: Arc<str>,
    registry: Arc<Registry>,
    /// Exchanges that the filter saw.
    pub exchanges: Counter,
    metrics_refused: Counter,
    suspended: Gauge,
    epoch: Instant,
    /// Microseconds after `epoch`; the past means not suspended.
    suspended_until: AtomicU64,
    history: Mutex<History>,
}

#[derive(Debug, Default)]
struct History {
    recent: VecDeque<Instant>,
    suspensions: u32,
    quiet_since: Option<Instant>,
    traps: BTreeMap<&'static str, u64>,
    last: Option<LastTrap>,
}

impl FilterHealth {
    /// Traps within the window that suspend a filter.
    pub const TRAPS: usize = 5;
    /// How long a trap is held against a filter.
    pub const WINDOW: Duration = Duration::from_secs(10);
    /// The first suspension.
    pub const SHORTEST: Duration = Duration::from_secs(1);
    /// No suspension is longer.
    pub const LONGEST: Duration = Duration::from_secs(60);
    /// Running for so long without a trap makes up for earlier suspensions.
    pub const QUIET: Duration = Duration::from_secs(60);

    /// A filter that has not run yet. `now` is the earliest moment that the health will ever be told of.
    pub fn new(filter: Arc<str>, registry: Arc<Registry>, now: Instant) -> FilterHealth {
        FilterHealth {
            exchanges: registry.series(&FILTER_EXCHANGES, [&filter]),
            metrics_refused: registry.series(&GUEST_METRICS_REFUSED, [&filter]),
            suspended: registry.series(&FILTER_SUSPENDED, [&filter]),
            filter,
            registry,
            epoch: now,
            suspended_until: AtomicU64::new(0),
            history: Mutex::default(),
        }
    }

    /// Whether the filter must not be run now. One atomic load.
    pub fn is_suspended(&self, now: Instant) -> bool {
        let until = self.suspended_until.load(Ordering::Relaxed);
        until != 0 && self.microseconds(now) < until
    }

    /// As [`is_suspended`](Self::is_suspended). The clock is read only for a filter that has been suspended before.
    pub fn is_suspended_now(&self) -> bool {
        self.suspended_until.load(Ordering::Relaxed) != 0 && self.is_suspended(Instant::now())
    }

    /// Counts the end of an instance that is held against nobody.
    pub fn count_trap(&self, trap: &Trap, wall: SystemTime) {
        drop(self.note(trap, wall));
    }

    /// Counts the end of an instance. Answers for how long the filter is suspended from now on, if this trap was one
    /// too many. A trap of an instance that was still running when the suspension began changes nothing.
    pub fn record_trap(&self, trap: &Trap, now: Instant, wall: SystemTime) -> Option<Duration> {
        let mut history = self.note(trap, wall);
        if self.is_suspended(now) {
            return None;
        }
        let pause = history.count(now)?;
        history.quiet_since = Some(now + pause);
        self.suspended_until.store(self.microseconds(now + pause), Ordering::Relaxed);
        self.suspended.set(1);
        Some(pause)
    }

    fn note(&self, trap: &Trap, wall: SystemTime) -> MutexGuard<'_, History> {
        let reason = trap.reason.as_str();
        self.registry.series(&FILTER_TRAPS, [&self.filter, reason]).increment();
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        *history.traps.entry(reason).or_default() += 1;
        history.last = Some(LastTrap {
            time: rfc3339(wall),
            reason,
            message: trap.message.clone(),
            backtrace: trap.backtrace.clone(),
        });
        history
    }

    /// Puts the gauge right; call before the metrics are read.
    pub fn refresh(&self, now: Instant) {
        self.suspended.set(i64::from(self.is_suspended(now)));
    }

    /// The filter's line in the status. `replacing`: a worker waits for an instance of it.
    pub fn status(&self, filter: &Filter, view: FilterView, now: Instant) -> FilterStatus {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let suspended = self.is_suspended(now);
        let left =
            self.suspended_until.load(Ordering::Relaxed).saturating_sub(self.microseconds(now));
        let state = match (suspended, view.replacing) {
            (true, _) => FilterState::Suspended,
            (false, 0) => FilterState::Live,
            (false, _) => FilterState::Replacing,
        };
        FilterStatus {
            name: filter.name.to_string(),
            url: filter.url.clone(),
            digest: filter.module.digest().to_string(),
            since: rfc3339(view.since),
            state,
            isolation: if view.pool.is_some() { "EXCLUSIVE" } else { "SHARED" },
            pool: view.pool,
            shared_instance: view.shared_instance,
            instances: view.instances,
            memory_bytes: view.memory_bytes,
            exchanges: self.exchanges.get(),
            metrics_refused: Some(self.metrics_refused.get()).filter(|count| *count > 0),
            traps: history.traps.clone(),
            last_trap: history.last.clone(),
            suspended_until: suspended.then(|| rfc3339(view.wall + Duration::from_micros(left))),
        }
    }

    fn microseconds(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

/// What the workers know of a filter, for [`FilterHealth::status`].
#[derive(Clone, Debug)]
pub struct FilterView {
    /// Wall clock at the moment of the report.
    pub wall: SystemTime,
    /// When this module began to run with this configuration.
    pub since: SystemTime,
    /// Live instances on all workers.
    pub instances: usize,
    /// Their linear memory.
    pub memory_bytes: usize,
    /// Workers that wait for a new instance.
    pub replacing: usize,
    /// With `isolation: EXCLUSIVE`.
    pub pool: Option<PoolStatus>,
    /// With `isolation: EXCLUSIVE`: why an instance is kept that no exchange has.
    pub shared_instance: Vec<SharedUse>,
}

impl History {
    /// Counts one trap; the length of the suspension if it was one too many.
    fn count(&mut self, now: Instant) -> Option<Duration> {
        let quiet = self.quiet_since.map(|since| now.saturating_duration_since(since));
        if quiet.is_some_and(|quiet| quiet >= FilterHealth::QUIET) {
            self.suspensions = 0;
        }
        self.quiet_since = Some(now);
        let recent = |at: &Instant| now.saturating_duration_since(*at) <= FilterHealth::WINDOW;
        self.recent.retain(recent);
        self.recent.push_back(now);
        if self.recent.len() < FilterHealth::TRAPS {
            return None;
        }
        self.recent.clear();
        let doubled = FilterHealth::SHORTEST.saturating_mul(1 << self.suspensions.min(6));
        self.suspensions += 1;
        Some(doubled.min(FilterHealth::LONGEST))
    }
}
