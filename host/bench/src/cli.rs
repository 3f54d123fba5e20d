//! What was typed, what is shown, and the exit code.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::chart::svg;
use crate::compare::{self, Pace, Plan};
use crate::grow::{self, Axis};
use crate::place;
use crate::report::{self, Report, Table};
use crate::scenario::{self, PeerName};
use crate::swap;
use crate::tools::Subject;

/// Parts of BENCHMARKS.md.
const PART: &str = "compare";
const SWAP_PART: &str = "swap";
const GROW_PART: &str = "grow";
/// In the workspace.
const CURVES: &str = "docs/growth.svg";

/// Measures this proxy beside others, on two cores
#[derive(Debug, Parser)]
#[command(name = "portcullis-bench")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The same work on Portcullis, nginx, HAProxy and Envoy, in turn; writes the tables of BENCHMARKS.md
    Compare(CompareArgs),
    /// Starts, changes of a filter under load, and memory after a thousand of them; writes their part of BENCHMARKS.md
    Swap(AloneArgs),
    /// What routes, filters, connections, endpoints and documents cost from one to ten thousand; writes docs/growth.svg and the tables
    Grow(GrowArgs),
}

#[derive(Debug, Args)]
struct AloneArgs {
    /// Fewer repetitions, a build without training, and BENCHMARKS.md stays as it is
    #[arg(long)]
    quick: bool,
    /// Use this portcullis instead of building one
    #[arg(long, value_name = "PATH")]
    portcullis: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// Three rounds of a second, a build without training, and BENCHMARKS.md stays as it is
    #[arg(long)]
    quick: bool,
    /// Only this scenario (may be repeated; scenarios.toml lists them), and BENCHMARKS.md stays as it is
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<String>,
    /// Only this proxy (may be repeated), and BENCHMARKS.md stays as it is
    #[arg(long, value_name = "NAME", value_parser = peer)]
    peer: Vec<PeerName>,
    /// Use this portcullis instead of building one
    #[arg(long, value_name = "PATH")]
    portcullis: Option<PathBuf>,
    /// Form of the results
    #[arg(short = 'o', long = "output", value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Args)]
struct GrowArgs {
    #[command(flatten)]
    alone: AloneArgs,
    /// Only this (may be repeated): hosts, prefixes, expressions, filters, connections, endpoints, documents; no file is written
    #[arg(long, value_name = "WHAT", value_parser = axis)]
    only: Vec<Axis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Compare(args) => compare(args),
        Verb::Swap(args) => swap(args),
        Verb::Grow(args) => grow(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn compare(args: CompareArgs) -> Result<()> {
    let whole = args.only.is_empty() && args.peer.is_empty() && !args.quick;
    let scenarios = scenario::chosen(scenario::load()?, &args.only, &args.peer)?;
    let portcullis = Subject::new(args.portcullis, args.quick);
    let pace = if args.quick { Pace::QUICK } else { Pace::WHOLE };
    let plan = Plan { scenarios, pace, portcullis, command: command() };
    let report = compare::run(&plan, &mut say)?;
    let tables = Table::all(&plan.scenarios, &report.rows);
    show(args.output, &report, &tables)?;
    ensure!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    if whole {
        written(PART, &report.markdown(&tables))?;
    }
    Ok(())
}

fn swap(args: AloneArgs) -> Result<()> {
    let (repetitions, changes) = if args.quick { swap::Plan::QUICK } else { swap::Plan::WHOLE };
    let portcullis = Subject::new(args.portcullis, args.quick);
    let plan = swap::Plan { repetitions, changes, portcullis, command: command() };
    let report = swap::run(&plan, &mut say)?;
    let text = report.markdown();
    writeln!(io::stdout().lock(), "{text}")?;
    let tally = &report.tally;
    let first = tally.first_failure.as_deref().unwrap_or_default();
    ensure!(tally.failures == 0, "{} requests failed, the first: {first}", tally.failures);
    if !args.quick {
        written(SWAP_PART, &text)?;
    }
    Ok(())
}

fn grow(args: GrowArgs) -> Result<()> {
    let (most, rounds, seconds) = if args.alone.quick { (1000, 1, 1) } else { (10_000, 3, 2) };
    let whole = args.only.is_empty() && !args.alone.quick;
    let axes = if args.only.is_empty() { Axis::ALL.to_vec() } else { args.only };
    let portcullis = Subject::new(args.alone.portcullis, args.alone.quick);
    let plan = grow::Plan { axes, most, rounds, seconds, portcullis, command: command() };
    let report = grow::run(&plan, &mut say)?;
    let text = report.markdown();
    writeln!(io::stdout().lock(), "{text}")?;
    ensure!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    if whole {
        fs::write(place::workspace().join(CURVES), svg(&report.panels()))?;
        say(&format!("{CURVES} written"));
        written(GROW_PART, &text)?;
    }
    Ok(())
}

fn written(part: &str, text: &str) -> Result<()> {
    report::write(part, text)?;
    say(&format!("{} written", report::PATH));
    Ok(())
}

fn axis(text: &str) -> Result<Axis, String> {
    let named = Axis::ALL.into_iter().find(|axis| axis.noun() == text);
    named.ok_or_else(|| format!("one of {}", Axis::ALL.map(Axis::noun).join(", ")))
}

fn peer(text: &str) -> Result<PeerName, String> {
    let named = PeerName::ALL.into_iter().find(|peer| peer.to_string().eq_ignore_ascii_case(text));
    named.ok_or_else(|| "portcullis, nginx, haproxy or envoy".to_owned())
}

/// As it can be typed again; where a program lies on this machine is nobody's concern.
fn command() -> String {
    let mut words = vec!["cargo run --release -p portcullis-bench --".to_owned()];
    let mut typed = std::env::args().skip(1);
    while let Some(word) = typed.next() {
        match word.as_str() {
            "--portcullis" => drop(typed.next()),
            _ => words.push(word),
        }
    }
    words.join(" ")
}

fn show(output: Output, report: &Report, tables: &[Table]) -> Result<()> {
    let mut out = io::stdout().lock();
    if output == Output::Json {
        writeln!(out, "{}", serde_json::to_string_pretty(report)?)?;
        return Ok(());
    }
    writeln!(out, "{}", report.origin())?;
    for table in tables {
        writeln!(out, "\n{}\n{}", table.title, table.text)?;
    }
    if !report.targets.is_empty() {
        writeln!(out, "{}", report.targets())?;
    }
    Ok(())
}

/// For people; whoever has closed standard error does not read it.
fn say(line: &str) {
    let _unread = writeln!(io::stderr(), "{line}");
}
