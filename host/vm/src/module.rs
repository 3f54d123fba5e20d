//! Bytes, checked, compiled and linked: everything about a module that does not depend on its configuration.

use std::fmt;

use crate::cache::Cache;
use crate::engine::Engine;
use crate::error::LoadError;
use crate::inspect::Inspection;

/// SHA-256 of a module's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        let _ = bytes;
        todo!()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A compiled module, ready to be instantiated.
#[derive(Debug)]
pub struct Module;

#[allow(unused_variables, missing_docs, reason = "stub")]
impl Module {
    /// Compiles, or loads what was compiled before. Takes long: never call on a worker thread.
    pub fn load(engine: &Engine, bytes: &[u8], cache: Option<&Cache>) -> Result<Module, LoadError> {
        todo!()
    }
    pub fn digest(&self) -> Digest {
        todo!()
    }
    pub fn inspection(&self) -> &Inspection {
        todo!()
    }
    /// Whether the compiled code came from the cache.
    pub fn from_cache(&self) -> bool {
        todo!()
    }
}
