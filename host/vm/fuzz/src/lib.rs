//! What the fuzz targets share: the host of vm's own tests, and guests that do what the input says.

#[path = "../../tests/it/host/mod.rs"]
pub mod host;
pub mod driver;
pub mod interpreter;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use portcullis_vm::{Limits, Module, PluginSpec};

/// Most input that a guest takes in.
pub const MAX_INPUT: usize = 32 << 10;

/// A guest that is compiled once and started for each input.
pub struct Guest(OnceLock<Module>);

impl Guest {
    /// Not compiled yet.
    #[must_use]
    pub const fn new() -> Guest {
        Guest(OnceLock::new())
    }

    /// The module.
    pub fn module(&self, text: impl FnOnce() -> String) -> &Module {
        self.0.get_or_init(|| host::module(&text()))
    }
}

/// With the input as its configuration.
#[must_use]
pub fn spec(input: &[u8]) -> Arc<PluginSpec> {
    let configuration = Bytes::copy_from_slice(&input[..input.len().min(MAX_INPUT)]);
    let spec = host::spec();
    // A sanitized build takes its time.
    let limits = Limits { callback: Duration::from_secs(60), ..spec.limits };
    Arc::new(PluginSpec { configuration, limits, ..spec })
}
