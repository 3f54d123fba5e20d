//! Bytes, checked, compiled and linked: everything about a module that does not depend on its configuration.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::cache::{self, Cache};
use crate::engine::Engine;
use crate::error::LoadError;
use crate::guest::Guest;
use crate::hostcalls;
use crate::inspect::{Abi, Bodies, Inspection, inspect_with};
use crate::pulse::Pulse;

/// SHA-256 of a module's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// That which 64 hexadecimal digits stand for; `None`: they are something else.
    pub fn from_hex(digits: &str) -> Option<Digest> {
        // `from_str_radix` would take a sign, too.
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Digest(bytes))
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
    pulse: Arc<Pulse>,
    digest: Digest,
    inspection: Inspection,
    abi: Abi,
    origin: Origin,
}

/// Where the compiled code came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Cache,
    Compiler,
}

/// A module that may be compiled.
struct Draft {
    digest: Digest,
    inspection: Inspection,
}

impl Draft {
    fn of(bytes: &[u8], digest: Digest, bodies: Bodies) -> Result<Draft, LoadError> {
        let inspection = inspect_with(bytes, bodies)?;
        inspection.verdict()?;
        Ok(Draft { digest, inspection })
    }

    fn finish(
        self,
        engine: &Engine,
        compiled: &wasmtime::Module,
        origin: Origin,
    ) -> Result<Module, LoadError> {
        let Draft { digest, inspection } = self;
        let linked = hostcalls::linker(engine.wasmtime(), compiled)
            .and_then(|linker| linker.instantiate_pre(compiled))
            .map_err(LoadError::of_engine)?;
        let abi = inspection.abi.unwrap_or(Abi::V0_2_1);
        let pulse = engine.pulse().clone();
        Ok(Module { linked, pulse, digest, inspection, abi, origin })
    }
}

impl Module {
    /// Loads what was compiled before, or compiles in this process. Takes long: never call on a worker thread.
    ///
    /// # Errors
    /// The module is invalid, misses the ABI marker, imports what this host does not provide, or does not compile. A
    /// cache that fails is no error.
    pub fn load(engine: &Engine, bytes: &[u8], cache: Option<&Cache>) -> Result<Module, LoadError> {
        let digest = Digest::of(bytes);
        if let Some(compiled) = cache.and_then(|cache| cache.load(engine, digest.0)) {
            let draft = Draft::of(bytes, digest, Bodies::Known)?;
            return draft.finish(engine, &compiled, Origin::Cache);
        }
        let draft = Draft::of(bytes, digest, Bodies::Checked)?;
        let compiled = cache::compile(engine, digest.0, bytes, cache)?;
        draft.finish(engine, &compiled, Origin::Compiler)
    }

    /// Loads what was compiled before, by whichever process; `None` when the cache does not have it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn find(engine: &Engine, bytes: &[u8], cache: &Cache) -> Result<Option<Module>, LoadError> {
        let digest = Digest::of(bytes);
        let compiled = cache.load(engine, digest.0);
        let bodies = if compiled.is_some() { Bodies::Known } else { Bodies::Checked };
        let draft = Draft::of(bytes, digest, bodies)?;
        compiled.map(|compiled| draft.finish(engine, &compiled, Origin::Cache)).transpose()
    }

    /// Compiles a module into the cache, for another process to [`find`](Self::find). Takes long.
    ///
    /// # Errors
    /// As [`load`](Self::load), and [`LoadError::Cache`]: it cannot be stored.
    pub fn compile_into(engine: &Engine, bytes: &[u8], cache: &Cache) -> Result<(), LoadError> {
        let draft = Draft::of(bytes, Digest::of(bytes), Bodies::Checked)?;
        cache.fill(engine, draft.digest.0, bytes)
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
        self.origin == Origin::Cache
    }

    pub(crate) fn abi(&self) -> Abi {
        self.abi
    }

    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
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
