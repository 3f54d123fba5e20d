//! What is told of the running data plane: status and metrics.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::Proxy;
use crate::observe::families::CONNECTIONS_ACTIVE;
use crate::observe::{Gauge, GenerationStatus, ListenerStatus, Status};
use crate::services::Running;

impl Proxy {
    /// What runs, since when, and what has gone wrong with it.
    pub fn status(&self) -> Status {
        let published = self.inner.published();
        let now = Instant::now();
        let listeners = published.addresses().into_iter().map(|(name, address)| {
            let active: Gauge = self.inner.process.registry.series(&CONNECTIONS_ACTIVE, [&name]);
            let connections = usize::try_from(active.get()).unwrap_or(0);
            ListenerStatus { name, address: address.to_string(), connections }
        });
        let listeners: Vec<_> = listeners.collect();
        let filters = published
            .running
            .iter()
            .map(|running| running.health.status(&running.filter, running.view(), now));
        let running: Vec<Arc<Running>> = published
            .retired
            .iter()
            .filter_map(Weak::upgrade)
            .chain(published.running.iter().cloned())
            .collect();
        let generations: Vec<_> = published
            .tallies
            .iter()
            .filter_map(Weak::upgrade)
            .map(|tally| GenerationStatus {
                generation: tally.generation,
                exchanges: tally.exchanges.load(Ordering::Relaxed),
                instances: instances(&running, tally.generation),
            })
            .collect();
        Status {
            generation: published.snapshot.as_ref().map_or(0, |snapshot| snapshot.generation),
            workers: self.inner.workers.len(),
            connections: self.inner.connections.load(Ordering::Relaxed),
            exchanges: generations.iter().map(|generation| generation.exchanges).sum(),
            listeners,
            filters: filters.collect(),
            generations,
        }
    }

    /// Everything that is counted, in the Prometheus text format.
    pub fn metrics(&self) -> String {
        let now = Instant::now();
        self.inner.published().running.iter().for_each(|running| running.health.refresh(now));
        let mut text = self.inner.process.registry.render();
        text.push_str(&self.inner.process.guests.render());
        text
    }
}

fn instances(running: &[Arc<Running>], generation: u64) -> usize {
    let mut seen: Vec<*const Running> = Vec::new();
    let mut sum = 0;
    for running in running.iter().filter(|running| running.generation == generation) {
        if !seen.contains(&Arc::as_ptr(running)) {
            seen.push(Arc::as_ptr(running));
            sum += running.view().instances;
        }
    }
    sum
}
