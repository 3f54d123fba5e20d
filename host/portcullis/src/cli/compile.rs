//! `portcullis compile`: compiles the module on standard input into the cache and ends. `run` starts it; people have no
//! use for it.
//!
//! The module is not trusted: memory is bounded before a byte of it is read. Whoever started the process bounds its time.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use portcullis_vm::{Cache, Engine, LoadError, Module};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::{Exit, Outcome};
use crate::fetch::MODULE_BYTES;

/// Address space, of which the allocator reserves a part that it never uses.
const MEMORY: u64 = 4 << 30;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder of compiled modules
    #[arg(long, value_name = "DIR")]
    pub cache: PathBuf,
}

/// Compiles. On failure the result is why.
pub fn run(args: &Args) -> Outcome {
    match bound().and_then(|()| standard_input()) {
        Ok(bytes) => compile(&bytes, &args.cache),
        Err(problem) => failed(Exit::Setup, problem.to_string()),
    }
}

fn compile(bytes: &[u8], folder: &Path) -> Outcome {
    let stored = Engine::new()
        .and_then(|engine| Module::compile_into(&engine, bytes, &Cache::open(folder)?));
    match stored {
        Ok(()) => Outcome::default(),
        Err(LoadError::Compile(problem)) => failed(Exit::Invalid, problem),
        Err(error @ LoadError::Cache { .. }) => failed(Exit::Setup, error.to_string()),
        Err(error) => failed(Exit::Invalid, error.to_string()),
    }
}

fn failed(exit: Exit, text: String) -> Outcome {
    Outcome { exit, text, ..Outcome::default() }
}

/// No more memory than this, no core file, and no life after the process that waits.
fn bound() -> io::Result<()> {
    let at_most = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::As, at_most(MEMORY))?;
    setrlimit(Resource::Core, at_most(0))?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

fn standard_input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(MODULE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
