//! Where things lie: this crate's folder in the source tree, the workspace, its target folder; and which core is whose.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The core of the proxy that is measured.
pub const PROXY_CORE: &str = "0";
/// The core of everything else: generator, upstream, this program.
pub const OTHER_CORE: &str = "1";
/// Both.
pub const ALL_CORES: &str = "0,1";
/// 10 000 connections, and what else a process opens.
const FILES: u64 = 16_384;

/// `host/bench` of the tree that this program was built from.
#[must_use]
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    home().parent().and_then(Path::parent).unwrap_or(home())
}

/// `target/` of the workspace, or what `CARGO_TARGET_DIR` says.
#[must_use]
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => workspace().join("target"),
    }
}

/// What this program keeps between two runs: tools, compiled modules.
#[must_use]
pub fn kept() -> PathBuf {
    target().join("bench")
}

/// Moves this program, and with it what it starts from now on, to its core.
///
/// # Errors
/// This machine has one core only, or no `taskset`.
pub fn take_core() -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores >= 2, "measuring takes two cores, this machine has {cores}");
    let own = std::process::id().to_string();
    let moved = Command::new("taskset").args(["-a", "-c", "-p", OTHER_CORE, &own]).output();
    let moved = moved.context("no taskset (Debian: util-linux)")?;
    ensure!(moved.status.success(), "taskset: {}", String::from_utf8_lossy(&moved.stderr));
    Ok(())
}

/// Lets this program, and with it what it starts, open as many files as idle connections take.
///
/// # Errors
/// The system does not allow so many.
pub fn open_many_files() -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= FILES) {
        return Ok(());
    }
    let wanted = Rlimit { current: Some(now.maximum.unwrap_or(FILES)), maximum: now.maximum };
    ensure!(wanted.current >= Some(FILES), "at most {:?} open files, {FILES} needed", now.maximum);
    setrlimit(Resource::Nofile, wanted).context("the limit of open files")
}
