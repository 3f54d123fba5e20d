//! Two-phase publishing: everything is built and bound first, every worker takes it in, and only then all switch.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError, Weak};

use super::thread::{Command, Prepare};
use super::{Inner, PATIENCE, all_answer, listen};
use crate::error::Refusal;
use crate::generation::{Parts, Plugins, Tally};
use crate::observe::AccessLogger;
use crate::observe::Gauge;
use crate::observe::families::{CERTIFICATE_EXPIRY, GENERATION};
use crate::services::{Running, World, upstream_names};
use crate::snapshot::{Filter, Snapshot};

/// Names a listening socket across generations.
pub type ListenerKey = (String, SocketAddr);

/// What is live.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The snapshot that new exchanges see.
    pub snapshot: Option<Arc<Snapshot>>,
    /// By filter index.
    pub running: Vec<Arc<Running>>,
    /// Old and new generations that exchanges are pinned to.
    pub tallies: Vec<Weak<Tally>>,
    /// Filters of old generations as well.
    pub retired: Vec<Weak<Running>>,
    bound: HashMap<ListenerKey, SocketAddr>,
    access_log: Option<Arc<AccessLogger>>,
    /// Held so that the registry keeps them.
    _expiry: Vec<Gauge>,
}

impl Published {
    /// Name and bound address of each listener.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let listeners = self.snapshot.iter().flat_map(|snapshot| &snapshot.listeners);
        listeners
            .filter_map(|listener| {
                let bound = self.bound.get(&(listener.name.clone(), listener.address))?;
                Some((listener.name.clone(), *bound))
            })
            .collect()
    }

    /// The open access log.
    pub fn access_log(&self) -> Option<Arc<AccessLogger>> {
        self.access_log.clone()
    }

    fn running_like(&self, filter: &Filter) -> Option<Arc<Running>> {
        self.running.iter().find(|running| running.filter.same_plugin(filter)).cloned()
    }

    /// The open log if its settings are the same, else a new one.
    fn log_for(
        &self,
        snapshot: &Snapshot,
        inner: &Inner,
    ) -> Result<Option<Arc<AccessLogger>>, Refusal> {
        let Some(settings) = &snapshot.access_log else { return Ok(None) };
        match &self.access_log {
            Some(open) if open.settings() == settings => Ok(Some(open.clone())),
            _ => AccessLogger::open(settings, &inner.process.registry)
                .map(|log| Some(Arc::new(log)))
                .map_err(|problem| Refusal::AccessLog { path: settings.path.clone(), problem }),
        }
    }
}

impl Inner {
    pub(super) fn publish(&self, snapshot: Snapshot) -> Result<(), Refusal> {
        snapshot.check().map_err(Refusal::Snapshot)?;
        let _turn = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        // What is told of the proxy meanwhile does not wait for guests to start.
        self.process.registry.sweep();
        let mut published = self.published().clone();
        let access_log = published.log_for(&snapshot, self)?;
        let (bound, mut sockets) = self.bind(&snapshot, &published)?;
        let snapshot = Arc::new(snapshot);
        let running: Vec<_> = snapshot
            .filters
            .iter()
            .map(|filter| {
                let fresh =
                    || Running::new(filter.clone(), snapshot.generation, &self.process.registry);
                published.running_like(filter).unwrap_or_else(|| Arc::new(fresh()))
            })
            .collect();
        let tally = Arc::new(Tally { generation: snapshot.generation, exchanges: 0.into() });
        let mut plugins = self.plugins(&snapshot, &running, &published)?;
        let tables = Parts::tables(&snapshot);
        let (sender, answers) = channel();
        for (worker, plugins) in self.workers.iter().zip(plugins.drain(..)) {
            let parts = Parts {
                snapshot: snapshot.clone(),
                tables: tables.clone(),
                plugins,
                access_log: access_log.clone(),
                tally: tally.clone(),
            };
            let sockets = sockets
                .iter_mut()
                .filter_map(|(key, each)| Some((key.clone(), each.pop()?)))
                .collect();
            let (sender, index) = (sender.clone(), worker.index);
            let done = Box::new(move |result| drop(sender.send((index, result))));
            worker.send(Command::Prepare(Box::new(Prepare { parts, sockets, done })));
        }
        self.settle(&answers)?;
        self.switch();
        let mut retired = std::mem::take(&mut published.retired);
        retired.extend(published.running.iter().map(Arc::downgrade));
        retired.retain(|running| running.strong_count() > 0);
        let mut tallies = std::mem::take(&mut published.tallies);
        tallies.retain(|tally| tally.strong_count() > 0);
        tallies.push(Arc::downgrade(&tally));
        self.process.registry.series(&GENERATION, []).set(snapshot.generation.cast_signed());
        let _expiry = self.expiry(&snapshot);
        *self.published() = Published {
            snapshot: Some(snapshot),
            running,
            tallies,
            retired,
            bound,
            access_log,
            _expiry,
        };
        Ok(())
    }

    /// Has every worker use what it has prepared, between two requests.
    fn switch(&self) {
        let (sender, switched) = channel();
        for worker in &self.workers {
            let sender = sender.clone();
            worker.send(Command::Switch(Box::new(move || {
                let _late = sender.send(());
            })));
        }
        if let Err(missing) = all_answer(&switched, self.workers.len(), PATIENCE) {
            tracing::error!("{missing} workers have not switched to the new generation yet");
        }
    }

    /// Waits for every worker; one that refuses or does not answer makes all forget what they have prepared.
    fn settle(
        &self,
        answers: &std::sync::mpsc::Receiver<(usize, Result<(), Arc<str>>)>,
    ) -> Result<(), Refusal> {
        let refusal = match all_answer(answers, self.workers.len(), PATIENCE) {
            Ok(answers) => match answers.into_iter().find_map(|(_, result)| result.err()) {
                None => return Ok(()),
                Some(filter) => Refusal::Snapshot(format!("filter {filter} has no plugin")),
            },
            Err(missing) => Refusal::Worker { worker: self.workers.len() - missing },
        };
        self.workers.iter().for_each(|worker| worker.send(Command::Forget));
        Err(refusal)
    }

    /// Sockets for the listeners that are new.
    fn bind(
        &self,
        snapshot: &Snapshot,
        published: &Published,
    ) -> Result<(Bound, Sockets), Refusal> {
        let mut bound = HashMap::new();
        let mut sockets = HashMap::new();
        for listener in &snapshot.listeners {
            let key = (listener.name.clone(), listener.address);
            if let Some(address) = published.bound.get(&key) {
                bound.insert(key, *address);
                continue;
            }
            let ours = published.bound.values().any(|address| *address == listener.address);
            let (address, each) = listen::bind(listener.address, self.workers.len(), ours)
                .map_err(|problem| Refusal::Listener {
                    name: listener.name.clone(),
                    address: listener.address,
                    problem,
                })?;
            bound.insert(key.clone(), address);
            sockets.insert(key, each);
        }
        Ok((bound, sockets))
    }

    /// For each worker: the plugins that no running one can stand for, started and configured.
    fn plugins(
        &self,
        snapshot: &Snapshot,
        running: &[Arc<Running>],
        published: &Published,
    ) -> Result<Vec<Plugins>, Refusal> {
        let names = upstream_names(&snapshot.backends);
        let mut all = Vec::with_capacity(self.workers.len());
        for _ in &self.workers {
            let mut plugins = Vec::with_capacity(running.len());
            for running in running {
                if published.running_like(&running.filter).is_some() {
                    plugins.push(None);
                    continue;
                }
                let world = World::new(running.clone(), self.process.clone(), names.clone());
                let (sender, built) = channel();
                let done = move |result| drop(sender.send(result));
                self.builder.build(running.filter.clone(), world.services(), done);
                let built = built
                    .recv()
                    .map_err(|_| Refusal::Snapshot("the builder thread has ended".to_owned()))?;
                let name = running.filter.name.clone();
                let plugin = built.map_err(|trap| Refusal::Filter { name, trap })?;
                plugins.push(Some((plugin, world)));
            }
            all.push(plugins);
        }
        Ok(all)
    }

    /// When certificates end. The gauges live as long as the snapshot.
    fn expiry(&self, snapshot: &Snapshot) -> Vec<Gauge> {
        let gauge = |side, name: &str, seconds| {
            let gauge: Gauge = self.process.registry.series(&CERTIFICATE_EXPIRY, [side, name]);
            gauge.set(seconds);
            gauge
        };
        let listeners = snapshot.listeners.iter().filter_map(|listener| {
            Some(gauge("listener", &listener.name, listener.tls.as_ref()?.expires_at()))
        });
        let backends = snapshot.backends.iter().filter_map(|backend| {
            Some(gauge("backend", &backend.name, backend.tls.as_ref()?.expires_at()?))
        });
        listeners.chain(backends).collect()
    }
}

type Bound = HashMap<ListenerKey, SocketAddr>;
type Sockets = HashMap<ListenerKey, Vec<TcpListener>>;
