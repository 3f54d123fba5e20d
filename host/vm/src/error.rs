//! What can go wrong: with a module ([`LoadError`]), and with a running instance ([`Trap`]).

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

/// Why a module cannot be used. Every variant has a stable code.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Not a Wasm binary, or one that does not validate.
    #[error("not a valid Wasm module: {0}")]
    Invalid(String),
    /// No `proxy_abi_version_*` export that we know.
    #[error("no Proxy-Wasm ABI marker: the module exports none of {expected}")]
    NoAbi {
        /// The markers that we know.
        expected: String,
    },
    /// Imports that this host does not provide.
    #[error("unknown import {}", .0.join(", "))]
    UnknownImports(Vec<String>),
    /// An export or import has a type that the ABI does not allow.
    #[error("{name} has the type {found}, expected {expected}")]
    WrongType {
        /// Import or export.
        name: String,
        /// Its type.
        found: String,
        /// What the ABI says.
        expected: String,
    },
    /// The engine could not be set up or the compiler failed.
    #[error("compilation failed: {0}")]
    Compile(String),
    /// The cache folder cannot be used.
    #[error("module cache {path}: {problem}")]
    Cache {
        /// The folder.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl LoadError {
    pub(crate) fn of_engine(problem: wasmtime::Error) -> LoadError {
        LoadError::Compile(format!("{problem:#}"))
    }
}

/// Why an instance died, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrapReason {
    /// `limits.callback` or `limits.start` spent.
    Cpu,
    /// `limits.memory` met, and the guest could not go on.
    Memory,
    /// The guest reported a panic and stopped.
    Panic,
    /// A bad pointer, an illegal instruction, too deep a recursion, `proc_exit`, …
    Trap,
    /// `proxy_on_vm_start` or `proxy_on_configure` answered no.
    Refused,
}

impl TrapReason {
    /// Label value for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            TrapReason::Cpu => "cpu",
            TrapReason::Memory => "memory",
            TrapReason::Panic => "panic",
            TrapReason::Trap => "trap",
            TrapReason::Refused => "refused",
        }
    }
}

/// The end of an instance. One pointer, since the result of each callback passes through many hands.
#[derive(Clone, Debug)]
pub struct Trap(Box<Death>);

/// How an instance died.
#[derive(Clone, Debug)]
pub struct Death {
    /// For metrics.
    pub reason: TrapReason,
    /// One sentence: what happened, in which callback; the guest's panic text or last log lines if it left any.
    pub message: String,
    /// Guest frames with function names, innermost first.
    pub backtrace: Vec<String>,
}

impl From<Death> for Trap {
    fn from(death: Death) -> Trap {
        Trap(Box::new(death))
    }
}

impl Deref for Trap {
    type Target = Death;

    fn deref(&self) -> &Death {
        &self.0
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Trap {}

/// Why the host ends a callback before the guest does. Travels through wasmtime as its error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("used more than {0:?} of CPU time")]
    Cpu(Duration),
    #[error("took longer than {0:?}, the bound on elapsed time")]
    Wall(Duration),
    #[error("made the host hold more than the memory limit in {0}")]
    Held(&'static str),
    #[error("bad pointer in {0}")]
    Pointer(&'static str),
    #[error("called {0} from its memory allocator")]
    Reentrant(&'static str),
    #[error("proc_exit({0})")]
    Exit(u32),
    #[error("{0}")]
    Abort(String),
}
