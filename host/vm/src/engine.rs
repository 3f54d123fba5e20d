//! The wasmtime settings that every module and instance shares: which Wasm a guest may use, how it is compiled, and how
//! it is interrupted. Knows nothing of Proxy-Wasm.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::error::LoadError;
use crate::pulse::Pulse;

/// Runs modules. The compiler is set up only while it compiles, so that a process which is handed compiled code never
/// holds it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: wasmtime::Engine,
    fingerprint: [u8; 32],
    pulse: Arc<Pulse>,
}

impl Engine {
    /// How often [`Engine::tick`] is to be called.
    pub const TICK: Duration = Duration::from_millis(2);

    const STACK: usize = 512 << 10;
    /// Most functions that a backtrace names.
    pub(crate) const FRAMES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);
    /// Part of the fingerprint: changes with what the compiler is given, and with what is asked of it below.
    const COMPILER: &str = "cranelift, speed; joint 2";

    /// An engine for this machine.
    ///
    /// # Errors
    /// [`LoadError::Compile`]: the machine lacks what guests need.
    pub fn new() -> Result<Engine, LoadError> {
        let mut config = Self::settings();
        config.enable_compiler(false);
        let inner = wasmtime::Engine::new(&config).map_err(LoadError::of_engine)?;
        let mut fingerprint = Fingerprint(Sha256::new_with_prefix(Self::COMPILER));
        inner.precompile_compatibility_hash().hash(&mut fingerprint);
        Ok(Engine { fingerprint: fingerprint.0.finalize().into(), inner, pulse: Arc::default() })
    }

    /// Compiled code of a module, in wasmtime's own format. Code compiled on this machine may ask for what its
    /// processor has; wasmtime checks that again wherever it is loaded.
    pub(crate) fn compile(&self, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
        let mut config = Self::settings();
        config
            .strategy(wasmtime::Strategy::Cranelift)
            .cranelift_opt_level(wasmtime::OptLevel::Speed)
            .native_unwind_info(false);
        let compiler = wasmtime::Engine::new(&config).map_err(LoadError::of_engine)?;
        compiler.precompile_module(bytes).map_err(LoadError::of_engine)
    }

    /// What compiled code depends on, the compiler itself aside.
    fn settings() -> wasmtime::Config {
        let mut config = wasmtime::Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(Self::STACK)
            .memory_init_cow(true)
            .generate_address_map(true)
            // The outermost may be a function of ours.
            .wasm_backtrace_max_frames(Some(Self::FRAMES.saturating_add(1)))
            .wasm_bulk_memory(true)
            .wasm_multi_value(true)
            .wasm_simd(true)
            .wasm_memory64(false)
            .wasm_multi_memory(false);
        config
    }

    /// The embedder calls this every [`Engine::TICK`] from a thread of its own; what running callbacks may use is
    /// counted in these. Where none runs it waits a while for the next one to begin.
    pub fn tick(&self) {
        self.inner.increment_epoch();
        self.pulse.rest();
    }

    /// Has a [`tick`](Engine::tick) that waits return.
    pub fn rouse(&self) {
        self.pulse.rouse();
    }

    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    /// Two engines with the same fingerprint can run each other's compiled modules.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

/// Collects what wasmtime hashes, wide enough to be a file name that does not collide.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
