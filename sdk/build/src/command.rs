//! Child processes that see this machine, but not the cargo that may be running us: under
//! `cargo test` the environment is full of settings meant for another build. It never passes
//! anything through a shell.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::error::BuildError;

/// Settings that describe the machine (where the registry is, which proxy to use) and therefore
/// hold for every build.
const KEPT: [&str; 4] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR"];
const REMOVED: [&str; 6] =
    ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"];

/// A command with a scrubbed environment and no standard input.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if foreign(&name) {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Whether a variable belongs to a surrounding build.
fn foreign(name: &OsString) -> bool {
    let Some(name) = name.to_str() else { return false };
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    starts(&REMOVED) && !starts(&KEPT)
}

/// Runs to the end and captures what it prints.
pub(crate) fn output(command: &mut Command) -> Result<Output, BuildError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|source| BuildError::Program { program, source })
}

/// The first line that a successful command prints; `None` when it fails or prints nothing.
pub(crate) fn line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Runs quietly, and ends it when it takes longer than `limit`.
///
/// # Errors
/// In words: it could not start, it failed, or it took too long.
pub(crate) fn within(command: &mut Command, limit: Duration) -> Result<(), String> {
    let started = Instant::now();
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("failed ({status})")),
            Ok(None) if started.elapsed() < limit => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer within {} s", limit.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// A program by name: in `PATH`, then where rustup puts its programs, then where Debian does.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    env::split_paths(&path)
        .chain(cargo_home.or(home).map(|folder| folder.join("bin")))
        .chain([PathBuf::from("/usr/bin")])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}
