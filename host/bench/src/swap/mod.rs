//! How long a start takes, and a change under load: until a new filter answers on every worker, what fails meanwhile, and whether a
//! thousand changes leave memory behind.

mod changes;
mod result;
mod starts;

pub use result::{Mark, Report, Times};

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::certificates;
use crate::modules;
use crate::place;
use crate::report::Machine;
use crate::tools::{self, Subject};
use crate::upstream::{Reach, Upstream};

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// How often what can be repeated at will: starts, changes that have to be compiled.
    pub repetitions: u32,
    /// Changes in a row, for memory.
    pub changes: u32,
    /// What is measured.
    pub portcullis: Subject,
    /// What was typed.
    pub command: String,
}

impl Plan {
    /// What tables are made of.
    pub const WHOLE: (u32, u32) = (30, 1000);
    /// What is only tried.
    pub const QUICK: (u32, u32) = (8, 100);
}

/// What a run has.
struct Bench {
    program: PathBuf,
    upstream: Upstream,
    body: Vec<u8>,
    small: PathBuf,
    release: PathBuf,
    /// Whatever a run compiles is its own: nothing in it was compiled before.
    kept: TempDir,
}

impl Bench {
    /// The program makes this folder itself, with the rights it asks for.
    fn cache(&self) -> PathBuf {
        self.kept.path().join("cache")
    }
}

/// Runs it. `say` gets a line for each step.
///
/// # Errors
/// Something is missing, does not start, or a change does not take effect. Requests that failed are the report's to tell.
pub fn run(plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let bench = prepare(plan, say)?;
    let mut times = vec![
        starts::prepared(&bench, plan.repetitions, say)?,
        starts::cold(&bench, plan.repetitions, say)?,
    ];
    let changed = changes::run(&bench, plan, say)?;
    times.extend(changed.times);
    Ok(Report {
        command: plan.command.clone(),
        machine: Machine::here(vec![tools::version(&bench.program, "--version")?]),
        small_kib: kib(&bench.small)?,
        release_kib: kib(&bench.release)?,
        times,
        memory: changed.memory,
        tally: changed.tally,
    })
}

fn prepare(plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Bench> {
    let program = plan.portcullis.program(say)?;
    let nginx = tools::debian("nginx", "nginx", say).map_err(anyhow::Error::msg)?;
    let small = modules::one("guests/header", say)?;
    let release = modules::one("guests/release", say)?;
    place::take_core()?;
    let pems = tempfile::tempdir()?;
    certificates::write(pems.path())?;
    let upstream = Upstream::start(&nginx, pems.path(), Reach::OneAddress)?;
    let body = upstream.body("/")?.to_vec();
    Ok(Bench { program, upstream, body, small, release, kept: tempfile::tempdir()? })
}

fn kib(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file)?.len() / 1024)
}
