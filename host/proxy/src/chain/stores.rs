//! The Redis stores that one filter uses on one worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use portcullis_vm::RedisSettings;

use crate::upstream::Cluster;
use crate::upstream::redis::Redis;

/// By the names of their upstreams.
#[derive(Debug, Default)]
pub(super) struct Stores(RefCell<HashMap<String, Store>>);

#[derive(Debug)]
struct Store {
    settings: Rc<RedisSettings>,
    client: Option<Rc<Redis>>,
}

impl Stores {
    /// How an instance wants a store to be used. The instances of a filter say the same; of two things, the last counts.
    pub(super) fn set(&self, upstream: String, settings: RedisSettings) {
        let mut stores = self.0.borrow_mut();
        if stores.get(&upstream).is_none_or(|store| *store.settings != settings) {
            stores.insert(upstream, Store { settings: Rc::new(settings), client: None });
        }
    }

    /// The client for a store that is `cluster` at the moment; `None` if nobody has said how to use it.
    pub(super) fn client(&self, upstream: &str, cluster: &Rc<Cluster>) -> Option<Rc<Redis>> {
        let mut stores = self.0.borrow_mut();
        let store = stores.get_mut(upstream)?;
        if let Some(client) = store.client.as_ref().filter(|client| client.is_of(cluster)) {
            return Some(client.clone());
        }
        Some(store.client.insert(Redis::new(cluster.clone(), store.settings.clone())).clone())
    }
}
