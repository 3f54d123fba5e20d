//! How cost grows: one thing after the other is made more, and what a request, a connection or a change costs is measured at each size.

mod axis;
mod documents;
mod idle;
mod load;
mod result;

pub use axis::Axis;
pub use result::{Growth, Report, Row, growth};

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::alone::Setting;
use crate::certificates;
use crate::load::{Generators, Tool};
use crate::modules;
use crate::place;
use crate::report::Machine;
use crate::tools::{self, Subject};
use crate::upstream::{Reach, Upstream};

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// What grows, in this order.
    pub axes: Vec<Axis>,
    /// How far.
    pub most: u32,
    /// Of each point.
    pub rounds: u32,
    /// Of a round.
    pub seconds: u32,
    /// What is measured.
    pub portcullis: Subject,
    /// What was typed.
    pub command: String,
}

/// What a run has.
struct Bench {
    program: PathBuf,
    generators: Generators,
    upstream: Upstream,
    body: Vec<u8>,
    module: PathBuf,
    rounds: u32,
    seconds: u32,
    kept: TempDir,
    cache: PathBuf,
}

impl Bench {
    fn setting(&self) -> Setting<'_> {
        Setting { program: &self.program, cache: &self.cache, cores: place::PROXY_CORE }
    }
}

/// Runs it. `say` gets a line for each step.
///
/// # Errors
/// Something is missing, or does not start. What goes wrong on one axis is among the report's failures.
pub fn run(plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let bench = prepare(plan, say)?;
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for axis in &plan.axes {
        if let Err(error) = measure(&bench, *axis, plan.most, &mut rows, say) {
            let failure = format!("{}: {error:#}", axis.noun());
            say(&format!("failed: {failure}"));
            failures.push(failure);
        }
    }
    let mut versions = vec![tools::version(&bench.program, "--version")?];
    versions.extend(bench.generators.versions());
    let (command, machine) = (plan.command.clone(), Machine::here(versions));
    bench.kept.close()?;
    Ok(Report { command, machine, rounds: plan.rounds, seconds: plan.seconds, rows, failures })
}

/// Every size of one axis.
fn measure(
    bench: &Bench,
    axis: Axis,
    most: u32,
    rows: &mut Vec<Row>,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    for count in axis.sizes(most) {
        let point = match axis {
            Axis::Connections => idle::point(bench, count),
            Axis::Documents => documents::point(bench, count),
            _ => load::point(bench, axis, count),
        };
        let figures = point.with_context(|| format!("with {count}"))?;
        let row = Row { axis, count, figures };
        say(&row.line());
        rows.push(row);
    }
    Ok(())
}

fn prepare(plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Bench> {
    let program = plan.portcullis.program(say)?;
    let found = |found: tools::Found| found.map_err(anyhow::Error::msg);
    let nginx = found(tools::debian("nginx", "nginx", say))?;
    let mut generators = Generators::default();
    generators.add(Tool::Wrk, found(Tool::Wrk.install(say))?);
    let module = modules::one("guests/header", say)?;
    place::open_many_files()?;
    place::take_core()?;
    let kept = tempfile::tempdir()?;
    certificates::write(kept.path())?;
    let upstream = Upstream::start(&nginx, kept.path(), Reach::EveryAddress)?;
    let body = upstream.body("/")?.to_vec();
    // The program makes this folder itself, with the rights it asks for.
    let cache = kept.path().join("cache");
    let Plan { rounds, seconds, .. } = *plan;
    Ok(Bench { program, generators, upstream, body, module, rounds, seconds, kept, cache })
}
