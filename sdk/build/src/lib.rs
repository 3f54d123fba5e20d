//! Compiles Proxy-Wasm filters written in Rust: finds a toolchain that can, or gets one; runs
//! cargo apart from everything else on the machine; tunes for size; checks what came out.
//!
//! It never installs anything silently (each step is announced through `progress`), never lets
//! the surrounding cargo's settings reach the child, and never touches the project's own target
//! folder: it has one of its own, by default `target/wasm` in the filter's workspace.
//!
//! ```no_run
//! use portcullis_build::{Install, Options, Target, build};
//!
//! let mut options = Options::new("filters/authz");
//! options.install = Install::Refused;
//! options.output = Some("authz.wasm".into());
//! let built = build(&options, &mut |step| eprintln!("{step}"))?;
//! println!("{} {} bytes sha256:{}", built.path.display(), built.size, built.digest);
//! # Ok::<(), portcullis_build::BuildError>(())
//! ```

use std::path::PathBuf;
use std::time::Duration;

mod compile;
mod package;
mod toolchain;
mod command;
mod module;
mod error;

pub use compile::{build, build_all};
pub use error::BuildError;

/// What to compile, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The filter's folder, or its `Cargo.toml`.
    pub manifest: PathBuf,
    /// The flavour of Wasm.
    pub target: Target,
    /// Whether a missing toolchain may be installed.
    pub install: Install,
    /// Where cargo works; `None`: `target/wasm` in the filter's workspace. The standard library may
    /// have to be compiled once for each such folder, so share it.
    pub target_dir: Option<PathBuf>,
    /// Where the finished module is copied, replacing a file there in one step; `None`: it stays
    /// in the target folder.
    pub output: Option<PathBuf>,
}

impl Options {
    /// A filter's folder, compiled for [`Target::Wasip1`] with installation allowed.
    pub fn new(manifest: impl Into<PathBuf>) -> Options {
        Options {
            manifest: manifest.into(),
            target: Target::Wasip1,
            install: Install::Allowed,
            target_dir: None,
            output: None,
        }
    }
}

/// The flavours of Wasm that Proxy-Wasm hosts run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `wasm32-wasip1`: clock, randomness and environment through WASI.
    Wasip1,
    /// `wasm32-unknown-unknown`: nothing but the Proxy-Wasm functions.
    Unknown,
}

impl Target {
    /// The name that rustc gives it.
    #[must_use]
    pub fn triple(self) -> &'static str {
        match self {
            Target::Wasip1 => "wasm32-wasip1",
            Target::Unknown => "wasm32-unknown-unknown",
        }
    }
}

/// Whether a missing toolchain may be installed, which is always announced first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    /// `rustup target add`, or Debian's packages when this is root on a Debian system.
    Allowed,
    /// Only what is there already.
    Refused,
}

/// A module that was compiled and checked.
#[derive(Clone, Debug)]
pub struct Built {
    /// The module's file: `output` where that was given.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the file, 64 hexadecimal digits.
    pub digest: String,
    /// Wall time, from looking for a toolchain to the finished file.
    pub elapsed: Duration,
    /// Compiler and its version, as rustc prints them.
    pub toolchain: String,
}
