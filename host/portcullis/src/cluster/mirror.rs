//! The local copy of the ConfigMaps of a few namespaces, and how fresh it is. What was read once is kept, however long the
//! API server is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::api::Failure;
use super::config_map::ConfigMap;

/// The ConfigMaps of a namespace by name; `None` until they were listed.
pub type Listed = Option<BTreeMap<Arc<str>, Arc<ConfigMap>>>;

/// Written by those who follow the API server, read by anybody.
pub struct Mirror {
    state: Mutex<BTreeMap<Arc<str>, Namespace>>,
    tried: Condvar,
    changed: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Namespace {
    listed: Listed,
    standing: Standing,
}

/// How a namespace stands with the API server.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Of the newest thing that was heard.
    pub resource_version: String,
    /// When that was.
    pub heard: Option<SystemTime>,
    /// Since when changes may go unseen; `None`: they are seen.
    pub stale_since: Option<SystemTime>,
    /// Why.
    pub failure: Option<Failure>,
    /// Failures so far.
    pub failures_total: u64,
    /// Whole lists so far.
    pub lists_total: u64,
}

impl Mirror {
    /// Nothing is known yet. `changed` is called after each change, on the thread that follows.
    pub fn new(
        namespaces: impl IntoIterator<Item = Arc<str>>,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Mirror {
        let start = || Standing { stale_since: Some(SystemTime::now()), ..Standing::default() };
        let namespaces = namespaces
            .into_iter()
            .map(|name| (name, Namespace { listed: None, standing: start() }));
        Mirror {
            state: Mutex::new(namespaces.collect()),
            tried: Condvar::new(),
            changed: Box::new(changed),
        }
    }

    /// Waits until each namespace was listed or could not be, at most for `patience`.
    pub fn wait(&self, patience: Duration) {
        let untried = |state: &mut BTreeMap<Arc<str>, Namespace>| {
            state.values().any(|one| one.listed.is_none() && one.standing.failure.is_none())
        };
        let waited = self.tried.wait_timeout_while(self.lock(), patience, untried);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// What there is, by namespace.
    pub fn read(&self) -> BTreeMap<Arc<str>, (Listed, Standing)> {
        let read = |(name, one): (&Arc<str>, &Namespace)| {
            (name.clone(), (one.listed.clone(), one.standing.clone()))
        };
        self.lock().iter().map(read).collect()
    }

    /// How each namespace stands.
    pub fn standing(&self) -> BTreeMap<Arc<str>, Standing> {
        self.lock().iter().map(|(name, one)| (name.clone(), one.standing.clone())).collect()
    }

    /// Everything there is in a namespace.
    pub(super) fn replace(&self, namespace: &str, maps: Vec<ConfigMap>, version: &str) {
        self.update(namespace, |one| {
            let known = one.listed.take().unwrap_or_default();
            let kept = |map: ConfigMap| {
                let same = known.get(&map.name).filter(|known| ***known == map).cloned();
                (map.name.clone(), same.unwrap_or_else(|| Arc::new(map)))
            };
            one.listed = Some(maps.into_iter().map(kept).collect());
            one.standing.lists_total += 1;
            one.standing.heard(version);
        });
        (self.changed)();
    }

    /// A ConfigMap that is new or changed.
    pub(super) fn put(&self, namespace: &str, map: ConfigMap) {
        self.update(namespace, |one| {
            one.standing.heard(&map.resource_version);
            one.listed.get_or_insert_default().insert(map.name.clone(), Arc::new(map));
        });
        (self.changed)();
    }

    /// A ConfigMap that is gone.
    pub(super) fn remove(&self, namespace: &str, name: &str, version: &str) {
        self.update(namespace, |one| {
            one.standing.heard(version);
            one.listed.get_or_insert_default().remove(name);
        });
        (self.changed)();
    }

    /// The server answers: nothing has changed up to `version`.
    pub(super) fn heard(&self, namespace: &str, version: &str) {
        self.update(namespace, |one| one.standing.heard(version));
    }

    /// Changes may go unseen from now on.
    pub(super) fn lost(&self, namespace: &str, failure: &Failure) {
        self.update(namespace, |one| {
            one.standing.stale_since.get_or_insert_with(SystemTime::now);
            one.standing.failures_total += 1;
            one.standing.failure = Some(failure.clone());
        });
        (self.changed)();
    }

    fn update(&self, namespace: &str, change: impl FnOnce(&mut Namespace)) {
        if let Some(one) = self.lock().get_mut(namespace) {
            change(one);
        }
        self.tried.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Namespace>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn heard(&mut self, version: &str) {
        self.resource_version = version.to_owned();
        self.heard = Some(SystemTime::now());
        self.stale_since = None;
        self.failure = None;
    }
}
