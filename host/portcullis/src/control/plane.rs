//! The data plane as `control` sees it.

use std::sync::Arc;

use portcullis_proxy::snapshot::Filter;
use portcullis_proxy::{Refusal, Snapshot};

use crate::plan::ProcessSettings;

/// Where configurations go live.
pub trait Plane {
    /// Starts and configures an instance, apart from all traffic. `process`: what the first call starts the data plane
    /// with.
    ///
    /// # Errors
    /// What it died of, or that it refused.
    fn rehearse(&mut self, filter: &Arc<Filter>, process: &ProcessSettings) -> Result<(), Refusal>;

    /// Serves traffic with `snapshot` from now on.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn publish(&mut self, snapshot: Snapshot, process: &ProcessSettings) -> Result<(), Refusal>;
}
