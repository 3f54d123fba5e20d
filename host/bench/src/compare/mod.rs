//! A run: what it needs is found or installed, filters are compiled, the upstream starts; then the scenarios, group by group.

mod group;
mod idle;
mod round;
mod order;

pub use order::alternating;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::certificates;
use crate::load::{Generators, Tool};
use crate::modules;
use crate::peers::{Program, Stage};
use crate::place;
use crate::report::{Machine, Report, targets};
use crate::scenario::{PeerName, Scenario};
use crate::tools::{self, Subject};
use crate::upstream::{Reach, Upstream};

/// How long is measured.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Of a round.
    pub seconds: u32,
    /// At most so many, whatever scenarios ask for.
    pub rounds: u32,
}

impl Pace {
    /// For figures that count.
    pub const WHOLE: Pace = Pace { seconds: 4, rounds: u32::MAX };
    /// To see that it works.
    pub const QUICK: Pace = Pace { seconds: 1, rounds: 3 };
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// In this order.
    pub scenarios: Vec<Scenario>,
    /// How long.
    pub pace: Pace,
    /// What is measured.
    pub portcullis: Subject,
    /// What was typed.
    pub command: String,
}

/// What a run has.
#[derive(Debug)]
pub(crate) struct Bench {
    programs: Vec<Program>,
    generators: Generators,
    pace: Pace,
}

/// Runs it. `say` gets a line for each step.
///
/// # Errors
/// Something is missing without which nothing can be measured. What goes wrong in one group is among the report's failures, and does not
/// keep the others from being measured.
pub fn run(plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let bench = prepare(plan, say)?;
    let modules = modules::compile(&plan.scenarios, say)?;
    place::open_many_files()?;
    place::take_core()?;
    let certificates = certified()?;
    let nginx = bench.program(PeerName::Nginx).context("the upstream is an nginx")?;
    let upstream = Upstream::start(&nginx.path, certificates.path(), Reach::OneAddress)?;
    let stage = Stage { upstream: &upstream, modules: &modules, certificates: certificates.path() };
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for group in groups(&plan.scenarios) {
        match group::run(&bench, &group, &stage, say) {
            Ok(measured) => rows.extend(measured),
            Err(error) => {
                say(&format!("failed: {error:#}"));
                failures.push(format!("{error:#}"));
            }
        }
    }
    let mut versions: Vec<String> =
        bench.programs.iter().map(Program::version).collect::<Result<_>>()?;
    versions.extend(bench.generators.versions());
    Ok(Report {
        schema: Report::SCHEMA,
        command: plan.command.clone(),
        machine: Machine::here(versions),
        seconds: plan.pace.seconds,
        targets: targets(&rows),
        rows,
        failures,
    })
}

impl Bench {
    fn program(&self, name: PeerName) -> Option<&Program> {
        self.programs.iter().find(|program| program.name == name)
    }
}

/// Scenarios that are measured in the same rounds stand together.
fn groups(scenarios: &[Scenario]) -> Vec<Vec<&Scenario>> {
    scenarios.chunk_by(|a, b| a.group() == b.group()).map(|chunk| chunk.iter().collect()).collect()
}

fn certified() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    certificates::write(folder.path())?;
    Ok(folder)
}

fn prepare(plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Bench> {
    let mut bench =
        Bench { programs: Vec::new(), generators: Generators::default(), pace: plan.pace };
    let peers: BTreeSet<PeerName> =
        plan.scenarios.iter().flat_map(|scenario| &scenario.peers).copied().collect();
    for name in PeerName::ALL {
        let found = match name {
            PeerName::Portcullis => Ok(plan.portcullis.program(say)?),
            // The upstream is one.
            PeerName::Nginx => tools::debian("nginx", "nginx", say),
            _ if !peers.contains(&name) => continue,
            PeerName::Haproxy => tools::debian("haproxy", "haproxy", say),
            PeerName::Envoy => tools::envoy(say),
        };
        if let Some(path) = there(&name.to_string(), found, say)? {
            bench.programs.push(Program { name, path });
        }
    }
    let wanted = plan
        .scenarios
        .iter()
        .flat_map(|scenario| scenario.loads.iter().filter_map(|load| Tool::of(scenario, *load)));
    for tool in wanted.collect::<BTreeSet<Tool>>() {
        if let Some(path) = there(tool.name(), tool.install(say), say)? {
            bench.generators.add(tool, path);
        }
    }
    Ok(bench)
}

/// What cannot be had is left out with a word about it; in CI there is nothing that cannot be had.
fn there(name: &str, found: tools::Found, say: &mut dyn FnMut(&str)) -> Result<Option<PathBuf>> {
    match found {
        Ok(path) => Ok(Some(path)),
        Err(why) if std::env::var_os("CI").is_some() => bail!("no {name}: {why}"),
        Err(why) => {
            say(&format!("{name}: left out, {why}"));
            Ok(None)
        }
    }
}
