//! The data plane that serves real traffic, behind `control`'s trait.

use std::sync::{Arc, OnceLock};

use portcullis_proxy::snapshot::Filter;
use portcullis_proxy::{Options, Proxy, Refusal, Snapshot};
use portcullis_vm::Engine;

use crate::control::Plane;
use crate::memory;
use crate::plan::ProcessSettings;

/// A [`Proxy`] that starts, with nothing to serve, when it is first needed: only then is it known with how many
/// workers.
pub(super) struct DataPlane {
    engine: Engine,
    started: Arc<OnceLock<Proxy>>,
}

impl DataPlane {
    /// Nothing runs yet.
    pub(super) fn new(engine: Engine) -> DataPlane {
        DataPlane { engine, started: Arc::default() }
    }

    /// Holds the proxy once it runs.
    pub(super) fn started(&self) -> Arc<OnceLock<Proxy>> {
        self.started.clone()
    }

    fn proxy(&self, process: &ProcessSettings) -> Result<Proxy, Refusal> {
        if let Some(proxy) = self.started.get() {
            return Ok(proxy.clone());
        }
        let options = Options::new(process.workers, self.engine.clone());
        let options = Options { tidy: memory::tidy, ..options };
        let proxy = Proxy::start(options, Snapshot::default())?;
        Ok(self.started.get_or_init(|| proxy).clone())
    }
}

impl Plane for DataPlane {
    fn rehearse(&mut self, filter: &Arc<Filter>, process: &ProcessSettings) -> Result<(), Refusal> {
        let name = filter.name.clone();
        self.proxy(process)?.rehearse(filter).map_err(|trap| Refusal::Filter { name, trap })
    }

    fn publish(&mut self, snapshot: Snapshot, process: &ProcessSettings) -> Result<(), Refusal> {
        self.proxy(process)?.publish(snapshot)
    }
}
