//! One snapshot brought to life on one worker: its route tables, clusters and filters. Exchanges pin it; when the last
//! one lets go, filters and connections that no later generation uses end.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use portcullis_vm::Plugin;

use crate::chain::{Builder, Local, Slot, SlotId};
use crate::route::RouteTable;
use crate::services::{Upstreams, World};
use crate::snapshot::{Listener, ListenerIndex, Snapshot};
use crate::upstream::Cluster;

/// One snapshot on one worker.
#[derive(Debug)]
pub struct Generation {
    /// What it was made of.
    pub snapshot: Arc<Snapshot>,
    /// By backend index.
    pub clusters: Vec<Rc<Cluster>>,
    tables: Arc<[RouteTable]>,
    slots: Vec<Rc<Slot>>,
    /// By listener index: the filters in request order.
    chains: Vec<Vec<Rc<Slot>>>,
    listeners: HashMap<String, ListenerIndex>,
}

/// What a worker gets to bring a snapshot to life. Made outside the worker.
#[derive(Debug)]
pub struct Parts {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// By listener index; shared by the workers.
    pub tables: Arc<[RouteTable]>,
    /// By filter index; `None`: the running plugin of the current generation serves on.
    pub plugins: Vec<Option<(Plugin, World)>>,
}

impl Parts {
    /// The route tables of a snapshot.
    pub fn tables(snapshot: &Snapshot) -> Arc<[RouteTable]> {
        (0..snapshot.listeners.len()).map(|listener| RouteTable::new(snapshot, listener)).collect()
    }
}

impl Generation {
    /// Brings a snapshot to life, with the unchanged filters and clusters of the generation before.
    ///
    /// # Errors
    /// A filter has neither a new plugin nor a running one; its name.
    pub fn new(
        parts: Parts,
        previous: Option<&Generation>,
        local: &Rc<Local>,
        builder: &Builder,
        slot_ids: &mut u64,
    ) -> Result<Generation, Arc<str>> {
        let Parts { snapshot, tables, plugins } = parts;
        let clusters: Vec<_> = snapshot
            .backends
            .iter()
            .map(|backend| {
                let known = previous.and_then(|previous| previous.cluster_like(backend));
                known.unwrap_or_else(|| Cluster::new(backend.clone()))
            })
            .collect();
        let upstreams = Rc::new(Upstreams::new(&clusters));
        let mut slots = Vec::with_capacity(snapshot.filters.len());
        for (filter, plugin) in snapshot.filters.iter().zip(plugins) {
            let slot = match plugin {
                Some((plugin, world)) => {
                    *slot_ids += 1;
                    let id = SlotId(*slot_ids);
                    Slot::new(id, filter.clone(), plugin, world, upstreams.clone(), local.clone(), builder.clone())
                }
                None => previous
                    .and_then(|previous| previous.slots.iter().find(|slot| slot.filter.same_plugin(filter)))
                    .cloned()
                    .ok_or_else(|| filter.name.clone())?,
            };
            slots.push(slot);
        }
        slots.iter().for_each(|slot| slot.adopt());
        let chain = |listener: &Arc<Listener>| listener.filters.iter().map(|index| slots[*index].clone()).collect();
        let chains = snapshot.listeners.iter().map(chain).collect();
        let name = |(index, listener): (usize, &Arc<Listener>)| (listener.name.clone(), index);
        let listeners = snapshot.listeners.iter().enumerate().map(name).collect();
        let generation = Generation { snapshot, clusters, tables, slots, chains, listeners };
        generation.upstreams_changed(&upstreams);
        Ok(generation)
    }

    /// The listener of this name.
    pub fn listener(&self, name: &str) -> Option<ListenerIndex> {
        self.listeners.get(name).copied()
    }

    /// The routes of a listener.
    pub fn routes(&self, listener: ListenerIndex) -> &RouteTable {
        &self.tables[listener]
    }

    /// The filters of a listener, in request order.
    pub fn chain(&self, listener: ListenerIndex) -> &[Rc<Slot>] {
        &self.chains[listener]
    }

    /// The filter with this index.
    pub fn slot(&self, filter: usize) -> &Rc<Slot> {
        &self.slots[filter]
    }

    fn cluster_like(&self, backend: &crate::snapshot::Backend) -> Option<Rc<Cluster>> {
        self.clusters.iter().find(|cluster| cluster.backend().same_endpoints(backend)).cloned()
    }

    /// Carried-over filters call the new generation's backends from now on.
    fn upstreams_changed(&self, upstreams: &Rc<Upstreams>) {
        self.slots.iter().for_each(|slot| slot.set_upstreams(upstreams.clone()));
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.chains.clear();
        self.slots.drain(..).for_each(Slot::release);
    }
}
