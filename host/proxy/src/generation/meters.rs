//! The counters of one generation on one worker, looked up once and kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use http::StatusCode;

use crate::facts::Flags;
use crate::observe::families::{
    PROTOCOL_ERRORS, REQUESTS_ACTIVE, RETRIES, TIMEOUTS, TRAILERS_DROPPED,
};
use crate::observe::{Gauge, Registry, RequestCounts, TcpCounts};
use crate::snapshot::{ListenerIndex, Rule, Snapshot};

/// Counters of the exchanges of one generation on one worker.
#[derive(Debug)]
pub struct Meters {
    registry: Arc<Registry>,
    listeners: Vec<(Arc<str>, Gauge)>,
    /// By listener and by the address of the rule, which lives as long as the generation.
    counts: RefCell<HashMap<(ListenerIndex, usize), Rc<RequestCounts>, RandomState>>,
}

/// What an exchange adds to the counters when it ends.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The rule that served it.
    pub rule: Option<&'a Arc<Rule>>,
    /// `namespace/name` of the backend.
    pub backend: Option<&'a Arc<str>>,
    /// Of the response.
    pub status: Option<StatusCode>,
    /// What went wrong.
    pub flags: Flags,
    /// From head to end.
    pub duration: Duration,
}

impl Meters {
    /// For the listeners of a snapshot.
    pub fn new(snapshot: &Snapshot, registry: &Arc<Registry>) -> Meters {
        let listener = |listener: &Arc<crate::snapshot::Listener>| {
            (Arc::from(listener.name.as_str()), registry.series(&REQUESTS_ACTIVE, [&listener.name]))
        };
        Meters {
            registry: registry.clone(),
            listeners: snapshot.listeners.iter().map(listener).collect(),
            counts: RefCell::default(),
        }
    }

    /// Name of a listener.
    pub fn listener_name(&self, listener: ListenerIndex) -> Arc<str> {
        self.listeners[listener].0.clone()
    }

    /// An exchange has begun.
    pub fn begun(&self, listener: ListenerIndex) {
        self.listeners[listener].1.add(1);
    }

    /// An exchange has ended.
    pub fn ended(&self, listener: ListenerIndex, outcome: &Outcome<'_>) {
        self.listeners[listener].1.add(-1);
        let key = (listener, outcome.rule.map_or(0, |rule| Arc::as_ptr(rule) as usize));
        let counts = self
            .counts
            .borrow_mut()
            .entry(key)
            .or_insert_with(|| {
                let route = outcome.rule.map_or_else(|| Arc::from(""), |rule| rule.name.clone());
                Rc::new(RequestCounts::new(
                    self.registry.clone(),
                    self.listener_name(listener),
                    route,
                ))
            })
            .clone();
        counts.record(outcome.backend, outcome.status, outcome.flags, outcome.duration);
    }

    /// Counters for a TCP connection; `route` is empty if none takes it.
    pub fn tcp(&self, listener: ListenerIndex, route: Arc<str>) -> TcpCounts {
        TcpCounts::new(self.registry.clone(), self.listener_name(listener), route)
    }

    /// A request was refused before it became an exchange.
    pub fn refused(&self, listener: ListenerIndex, kind: &str) {
        self.registry.series(&PROTOCOL_ERRORS, [&self.listeners[listener].0, kind]).increment();
    }

    /// An attempt after the first.
    pub fn retried(&self, backend: &str) {
        self.registry.series(&RETRIES, [backend]).increment();
    }

    /// `kind`: `request` or `attempt`.
    pub fn timed_out(&self, backend: &str, kind: &str) {
        self.registry.series(&TIMEOUTS, [backend, kind]).increment();
    }

    /// Trailers that the other side has no way to take.
    pub fn trailers_dropped(&self, direction: &str) {
        self.registry.series(&TRAILERS_DROPPED, [direction]).increment();
    }
}
