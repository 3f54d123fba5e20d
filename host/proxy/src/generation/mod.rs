//! One snapshot brought to life on one worker: its route tables, clusters and filters. Exchanges pin it; when the last
//! one lets go, filters and connections that no later generation uses end.

mod meters;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use foldhash::fast::RandomState;
use portcullis_vm::Plugin;
use tokio::task::spawn_local;

pub use meters::{Meters, Outcome};

use crate::chain::{Builder, Local, Slot, SlotId};
use crate::observe::{AccessLogger, Registry};
use crate::route::{RouteTable, TcpTable};
use crate::services::{Upstreams, World};
use crate::snapshot::{Backend, Filter, Listener, ListenerIndex, Snapshot};
use crate::upstream::Cluster;

/// One snapshot on one worker.
#[derive(Debug)]
pub struct Generation {
    /// What it was made of.
    pub snapshot: Arc<Snapshot>,
    /// By backend index.
    pub clusters: Vec<Rc<Cluster>>,
    /// The streams of the worker.
    pub local: Rc<Local>,
    /// `None`: off.
    pub access_log: Option<Arc<AccessLogger>>,
    /// Counters.
    pub meters: Meters,
    /// Exchanges that are pinned to it, on all workers.
    pub tally: Arc<Tally>,
    /// A filter can ask which hosts its route leads to.
    pub chooses_hosts: bool,
    upstreams: Rc<Upstreams>,
    tables: Arc<[Tables]>,
    slots: Vec<Rc<Slot>>,
    /// By listener index: the filters in request order.
    chains: Vec<Vec<Rc<Slot>>>,
    listeners: HashMap<String, ListenerIndex, RandomState>,
}

/// By filter index; `None`: the running plugin of the current generation serves on.
pub type Plugins = Vec<Option<(Plugin, World)>>;

/// What a worker gets to bring a snapshot to life. Made outside the worker.
pub struct Parts {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// By listener index; shared by the workers.
    pub tables: Arc<[Tables]>,
    /// What is new.
    pub plugins: Plugins,
    /// `None`: off.
    pub access_log: Option<Arc<AccessLogger>>,
    /// Counts the exchanges of this generation.
    pub tally: Arc<Tally>,
}

/// Exchanges of one generation, on all workers.
#[derive(Debug)]
pub struct Tally {
    /// The generation.
    pub generation: u64,
    /// Exchanges that have begun and not ended.
    pub exchanges: AtomicUsize,
}

/// The routes of one listener.
#[derive(Debug)]
pub struct Tables {
    http: RouteTable,
    tcp: TcpTable,
}

impl Parts {
    /// The route tables of a snapshot.
    pub fn tables(snapshot: &Snapshot) -> Arc<[Tables]> {
        let tables = |listener| Tables {
            http: RouteTable::new(snapshot, listener),
            tcp: TcpTable::new(snapshot, listener),
        };
        (0..snapshot.listeners.len()).map(tables).collect()
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
        registry: &Arc<Registry>,
    ) -> Result<Generation, Arc<str>> {
        let Parts { snapshot, tables, plugins, access_log, tally } = parts;
        let clusters: Vec<_> = snapshot
            .backends
            .iter()
            .map(|backend| {
                let known = previous.and_then(|previous| previous.cluster_like(backend));
                known.unwrap_or_else(|| Cluster::counted(backend.clone(), registry))
            })
            .collect();
        let upstreams = Rc::new(Upstreams::new(&clusters));
        let mut slots = Vec::with_capacity(snapshot.filters.len());
        for (filter, plugin) in snapshot.filters.iter().zip(plugins) {
            let slot = match plugin {
                Some((plugin, world)) => {
                    *slot_ids += 1;
                    let id = SlotId(*slot_ids);
                    Slot::new(id, plugin, world, upstreams.clone(), local.clone(), builder.clone())
                }
                None => previous
                    .and_then(|previous| {
                        previous.slots.iter().find(|slot| slot.filter.same_plugin(filter))
                    })
                    .cloned()
                    .ok_or_else(|| filter.name.clone())?,
            };
            slots.push(slot);
        }
        slots.iter().for_each(|slot| slot.adopt());
        let chain = |listener: &Arc<Listener>| {
            listener.filters.iter().map(|index| slots[*index].clone()).collect()
        };
        let chains = snapshot.listeners.iter().map(chain).collect();
        let name = |(index, listener): (usize, &Arc<Listener>)| (listener.name.clone(), index);
        let listeners = snapshot.listeners.iter().enumerate().map(name).collect();
        let meters = Meters::new(&snapshot, registry);
        let chooses_hosts = snapshot.filters.iter().any(|filter| chooses_hosts(filter));
        let local = local.clone();
        Ok(Generation {
            snapshot,
            clusters,
            local,
            access_log,
            tally,
            meters,
            chooses_hosts,
            upstreams,
            tables,
            slots,
            chains,
            listeners,
        })
    }

    /// New exchanges see this generation from now on: filters that were carried over call its backends.
    pub fn activate(&self) {
        self.slots.iter().for_each(|slot| slot.activate(self.upstreams.clone()));
    }

    /// Every filter is told that it ends, before the process does. Returns when all have ended. Cancel safe: those that
    /// have not ended yet are dropped with the generation.
    pub async fn end_filters(&self) {
        let ends: Vec<_> = self.slots.iter().cloned().map(Slot::end_now).map(spawn_local).collect();
        for end in ends {
            // One that panicked has said so.
            drop(end.await);
        }
    }

    /// The listener of this name.
    pub fn listener(&self, name: &str) -> Option<ListenerIndex> {
        self.listeners.get(name).copied()
    }

    /// The routes of a listener.
    pub fn routes(&self, listener: ListenerIndex) -> &RouteTable {
        &self.tables[listener].http
    }

    /// The TCPRoutes and TLSRoutes of a listener.
    pub fn tcp_routes(&self, listener: ListenerIndex) -> &TcpTable {
        &self.tables[listener].tcp
    }

    /// The backend that a filter names, as guests name those that they call.
    pub fn cluster(&self, name: &str) -> Option<Rc<Cluster>> {
        self.upstreams.cluster(name).cloned()
    }

    /// The filters of a listener, in request order.
    pub fn chain(&self, listener: ListenerIndex) -> &[Rc<Slot>] {
        &self.chains[listener]
    }

    /// The name of a listener, for the log.
    pub fn listener_name(&self, listener: ListenerIndex) -> Arc<str> {
        self.meters.listener_name(listener)
    }

    /// The filter with this index.
    pub fn slot(&self, filter: usize) -> &Rc<Slot> {
        &self.slots[filter]
    }

    fn cluster_like(&self, backend: &Backend) -> Option<Rc<Cluster>> {
        self.clusters.iter().find(|cluster| cluster.backend().same_endpoints(backend)).cloned()
    }
}

fn chooses_hosts(filter: &Filter) -> bool {
    const CALLS: [&str; 2] = ["proxy_get_upstream_hosts", "proxy_set_upstream_override_host"];
    let imports = &filter.module.inspection().imports;
    imports.iter().any(|import| CALLS.contains(&&*import.name))
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.chains.clear();
        self.slots.drain(..).for_each(Slot::release);
    }
}
