//! Bytes, checked, compiled and linked: everything about a module that does not depend on its configuration.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::cache::Cache;
use crate::engine::Engine;
use crate::error::LoadError;
use crate::guest::Guest;
use crate::hostcalls;
use crate::inspect::{Abi, Inspection, inspect};

/// SHA-256 of a module's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
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
pub struct Module {
    linked: wasmtime::InstancePre<Guest>,
    digest: Digest,
    inspection: Inspection,
    abi: Abi,
    from_cache: bool,
}

impl Module {
    /// Compiles, or loads what was compiled before. Takes long: never call on a worker thread.
    ///
    /// # Errors
    /// The module is invalid, misses the ABI marker, imports what this host does not provide, or does not compile. A
    /// cache that fails is no error.
    pub fn load(engine: &Engine, bytes: &[u8], cache: Option<&Cache>) -> Result<Module, LoadError> {
        let compile = |problem: wasmtime::Error| LoadError::Compile(format!("{problem:#}"));
        let digest = Digest::of(bytes);
        let inspection = inspect(bytes)?;
        inspection.verdict()?;
        let abi = inspection.abi.unwrap_or(Abi::V0_2_1);
        let cached = cache.and_then(|cache| cache.load(engine, digest.0));
        let from_cache = cached.is_some();
        let compiled = match cached {
            Some(module) => module,
            None => {
                let module = wasmtime::Module::new(engine.wasmtime(), bytes).map_err(compile)?;
                if let Some(cache) = cache {
                    cache.store(engine, digest.0, &module);
                }
                module
            }
        };
        let linked = hostcalls::linker(engine.wasmtime(), &compiled)
            .and_then(|linker| linker.instantiate_pre(&compiled))
            .map_err(compile)?;
        Ok(Module { linked, digest, inspection, abi, from_cache })
    }

    /// SHA-256 of the bytes it was made of.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What it imports, exports and claims.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Whether the compiled code came from the cache.
    pub fn from_cache(&self) -> bool {
        self.from_cache
    }

    pub(crate) fn abi(&self) -> Abi {
        self.abi
    }

    pub(crate) fn linked(&self) -> &wasmtime::InstancePre<Guest> {
        &self.linked
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("digest", &self.digest).field("abi", &self.abi).finish()
    }
}
