//! What a module imports, exports and claims, without compiling it.

use crate::error::LoadError;

/// ABI version by marker export; of several, the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Abi {
    /// `proxy_abi_version_0_1_0`
    V0_1_0,
    /// `proxy_abi_version_0_2_0`
    V0_2_0,
    /// `proxy_abi_version_0_2_1`
    V0_2_1,
}

/// One import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// `env`, `wasi_snapshot_preview1`, …
    pub module: String,
    /// Function's name.
    pub name: String,
    /// Whether this host provides it with the type that the module asks for.
    pub supported: bool,
}

/// What a module claims.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// `None`: no marker that we know.
    pub abi: Option<Abi>,
    /// In the module's order.
    pub imports: Vec<Import>,
    /// Names of exported functions.
    pub exports: Vec<String>,
    /// Carries the Rust SDK's marks (statuses outside its enum are undefined behaviour there).
    pub rust_sdk: bool,
    /// Bytes of memory at start.
    pub memory_bytes: u64,
}

/// Reads a module without compiling it.
///
/// # Errors
/// It is no valid module. A missing marker or an unknown import is no error here but in [`Module::load`](crate::Module::load).
pub fn inspect(bytes: &[u8]) -> Result<Inspection, LoadError> {
    let _ = bytes;
    todo!()
}
