//! The data plane as `control` sees it, and the one that serves real traffic.

use std::sync::Arc;
use std::sync::OnceLock;

use portcullis_proxy::snapshot::Filter;
use portcullis_proxy::{Options, Proxy, Refusal, Snapshot};
use portcullis_vm::{Engine, Trap};

use crate::plan::Planned;

/// Where configurations go live.
pub trait Plane {
    /// Starts and configures an instance, apart from all traffic.
    ///
    /// # Errors
    /// What it died of, or that it refused.
    fn rehearse(&self, filter: &Filter) -> Result<(), Trap>;

    /// Serves traffic with `snapshot` from now on. `planned` is what it was planned with.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn publish(&mut self, snapshot: Snapshot, planned: &Planned) -> Result<(), Refusal>;
}

/// A [`Proxy`] that starts with the first configuration published.
pub struct DataPlane {
    engine: Engine,
    proxy: Arc<OnceLock<Proxy>>,
}

impl DataPlane {
    /// Nothing runs yet.
    pub fn new(engine: Engine) -> DataPlane {
        DataPlane { engine, proxy: Arc::default() }
    }

    /// Holds the proxy once it runs.
    pub fn proxy(&self) -> Arc<OnceLock<Proxy>> {
        self.proxy.clone()
    }
}
