//! `portcullis compile`: compiles the module on standard input into the cache and ends. `run` starts it; people have no
//! use for it.
//!
//! The module is not trusted: memory is bounded before a byte of it is read, and it is given up before the container is full,
//! where others serve. Whoever started the process bounds its time.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use portcullis_vm::{Cache, Engine, LoadError, Module};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::room::{self, Room, room};
use super::{Exit, Outcome};
use crate::fetch::{MODULE_BYTES, NO_ROOM};

/// Address space, of which the allocator reserves a part that it never uses.
const MEMORY: u64 = 4 << 30;
/// The part of a container's memory that is left to those who serve: one in so many.
const RESERVE: u64 = 8;
/// How often it is looked whether that part is touched. Memory is filled at some hundred MB/s.
const LOOK: Duration = Duration::from_millis(5);
/// For the kernel, among those of whom one has to end: this one first.
const FIRST: &str = "1000";

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder of compiled modules
    #[arg(long, value_name = "DIR")]
    pub cache: PathBuf,
    /// The control group whose memory is not to be filled [default: that of the process]
    #[arg(long, value_name = "DIR", hide = true)]
    pub cgroup: Option<PathBuf>,
}

/// Compiles. On failure the result is why.
pub fn run(args: &Args) -> Outcome {
    let cgroup = args.cgroup.clone().unwrap_or_else(room::own);
    if let Some(words) = full(&cgroup) {
        return failed(Exit::Unavailable, words);
    }
    match bound().and_then(|()| watch(cgroup)).and_then(|()| standard_input()) {
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
    // Where this may not be said, it is not needed to bound anything.
    let _ = fs::write("/proc/self/oom_score_adj", FIRST);
    Ok(())
}

/// Ends the process, wherever it is, before the container is full.
fn watch(cgroup: PathBuf) -> io::Result<()> {
    if room(&cgroup).is_none() {
        return Ok(());
    }
    let look = move || loop {
        if let Some(words) = full(&cgroup) {
            // Whoever reads this has the status as well.
            let _ = io::stdout().write_all(words.as_bytes());
            process::exit(NO_ROOM);
        }
        thread::sleep(LOOK);
    };
    thread::Builder::new().name("room".to_owned()).spawn(look).map(drop)
}

/// That the reserve is touched.
fn full(cgroup: &Path) -> Option<String> {
    let Room { limit, left } = room(cgroup)?;
    let reserve = limit / RESERVE;
    let mib = |bytes: u64| bytes >> 20;
    (left < reserve).then(|| {
        let (limit, left, reserve) = (mib(limit), mib(left), mib(reserve));
        format!("of the container's {limit} MiB of memory {left} are left, and {reserve} are for those who serve")
    })
}

fn standard_input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(MODULE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
