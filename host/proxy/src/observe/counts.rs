//! What a worker counts when an exchange ends: one object for each pair of listener and rule, kept by the worker; and
//! what is counted of TCP connections.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::families::{REQUEST_DURATION, REQUESTS, TCP_CONNECTIONS, TCP_RECEIVED, TCP_SENT};
use super::metrics::{Counter, Histogram, Registry};
use crate::facts::Flags;

/// Counters of the exchanges of one listener and one rule on one worker. Each combination of status, flags and backend
/// is looked up in the registry the first time it occurs, and found in a short list from then on.
#[derive(Debug)]
pub struct RequestCounts {
    registry: Arc<Registry>,
    listener: Arc<str>,
    route: Arc<str>,
    durations: Histogram,
    seen: RefCell<Vec<Seen>>,
}

#[derive(Debug)]
struct Seen {
    status: u16,
    flags: Flags,
    backend: Option<Arc<str>>,
    counter: Counter,
}

impl RequestCounts {
    /// `route` is the rule's name, or empty for exchanges that no rule matched.
    pub fn new(registry: Arc<Registry>, listener: Arc<str>, route: Arc<str>) -> RequestCounts {
        let durations = registry.series(&REQUEST_DURATION, [&listener, &route]);
        RequestCounts { registry, listener, route, durations, seen: RefCell::default() }
    }

    /// Counts one exchange that has ended.
    pub fn record(
        &self,
        backend: Option<&Arc<str>>,
        status: Option<StatusCode>,
        flags: Flags,
        duration: Duration,
    ) {
        self.durations.observe(duration);
        let status = status.map_or(0, |status| status.as_u16());
        let mut seen = self.seen.borrow_mut();
        let known = seen.iter().find(|seen| {
            seen.status == status && seen.flags == flags && seen.backend.as_ref() == backend
        });
        if let Some(known) = known {
            return known.counter.increment();
        }
        let counter = self.registry.series(
            &REQUESTS,
            [
                &self.listener,
                &self.route,
                backend.map_or("", |name| name),
                &status.to_string(),
                &flags.to_string(),
            ],
        );
        counter.increment();
        seen.push(Seen { status, flags, backend: backend.cloned(), counter });
    }
}

/// Counters of the TCP connections of one listener and one route.
#[derive(Debug)]
pub struct TcpCounts {
    registry: Arc<Registry>,
    listener: Arc<str>,
    route: Arc<str>,
    received: Counter,
    sent: Counter,
}

impl TcpCounts {
    /// `route` is `namespace/name`, or empty for connections that no route takes.
    pub fn new(registry: Arc<Registry>, listener: Arc<str>, route: Arc<str>) -> TcpCounts {
        let received = registry.series(&TCP_RECEIVED, [&listener, &route]);
        let sent = registry.series(&TCP_SENT, [&listener, &route]);
        TcpCounts { registry, listener, route, received, sent }
    }

    /// Bytes have come from the client.
    pub fn received(&self, bytes: u64) {
        self.received.add(bytes);
    }

    /// Bytes have gone to the client.
    pub fn sent(&self, bytes: u64) {
        self.sent.add(bytes);
    }

    /// A connection has ended.
    pub fn ended(&self, backend: Option<&Arc<str>>, flags: Flags) {
        let backend = backend.map_or("", |name| name);
        let labels = [&*self.listener, &*self.route, backend, &*flags.to_string()];
        self.registry.series(&TCP_CONNECTIONS, labels).increment();
    }
}
