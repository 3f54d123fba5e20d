//! The wasmtime settings that every module and instance shares.

use crate::error::LoadError;

/// Compiles and runs modules. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine;

#[allow(unused_variables, missing_docs, reason = "stub")]
impl Engine {
    pub fn new() -> Result<Engine, LoadError> {
        todo!()
    }
    /// The embedder calls this every [`Engine::TICK`]; what running callbacks may use is counted in these.
    pub fn tick(&self) {
        todo!()
    }
    pub const TICK: std::time::Duration = std::time::Duration::from_millis(2);
}
