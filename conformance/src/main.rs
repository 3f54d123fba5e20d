//! The command: one verb for each way to hold the host to its word.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use portcullis_conformance::case::{self, Case, HostName};
use portcullis_conformance::differences::Differences;
use portcullis_conformance::guests::Compiled;
use portcullis_conformance::host::{Envoy, Found, Host, Portcullis};
use portcullis_conformance::matrix::Cell;
use portcullis_conformance::suite::{self, Report};
use portcullis_conformance::table::{self, Table};
use portcullis_conformance::{guests, h2spec, hostile, matrix, mutate, place};

/// Holds Portcullis beside a real Envoy.
#[derive(Debug, Parser)]
#[command(name = "portcullis-conformance")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs the cases and compares
    Run(RunArgs),
    /// Runs the hostile guests on Portcullis; also a part of `run`
    Hostile(HostileArgs),
    /// Runs h2spec against our listeners
    H2spec(H2specArgs),
    /// Makes each host call in turn answer Ok and do nothing; a cell has to notice
    Mutate(MutateArgs),
    /// Fills every cell on both hosts and writes TABLE.md
    Table(TableArgs),
}

#[derive(Debug, Args)]
struct TableArgs {
    /// Run nothing, write nothing: fail if a cell is missing, unexplained or explained for nothing. What hosts answer is compared with the
    /// file by `run`
    #[arg(long)]
    check: bool,
    /// Use this portcullis instead of building it
    #[arg(long, value_name = "PATH")]
    portcullis: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Only this host
    #[arg(long, value_enum)]
    host: Option<HostArg>,
    /// Only cases whose name begins so
    #[arg(long = "case", value_name = "NAME")]
    case: Option<String>,
    /// Use this portcullis instead of building it
    #[arg(long, value_name = "PATH")]
    portcullis: Option<PathBuf>,
    /// Form of the results
    #[arg(short = 'o', long = "output", value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Args)]
struct HostileArgs {
    /// Only guests whose name begins so
    #[arg(long = "case", value_name = "NAME")]
    case: Option<String>,
    /// Use this portcullis instead of building it
    #[arg(long, value_name = "PATH")]
    portcullis: Option<PathBuf>,
    /// Form of the results
    #[arg(short = 'o', long = "output", value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Args)]
struct MutateArgs {
    /// Only this host call, as modules import it
    #[arg(long, value_name = "NAME")]
    call: Option<String>,
    /// Use this portcullis instead of building it
    #[arg(long, value_name = "PATH")]
    portcullis: Option<PathBuf>,
    /// Form of the results
    #[arg(short = 'o', long = "output", value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Args)]
struct H2specArgs {
    /// Use this portcullis instead of building it
    #[arg(long, value_name = "PATH")]
    portcullis: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HostArg {
    Portcullis,
    Envoy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(args) => run(&args),
        Verb::Hostile(args) => hostile(&args),
        Verb::H2spec(args) => http2(args),
        Verb::Mutate(args) => mutate(&args),
        Verb::Table(args) => table(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &RunArgs) -> Result<ExitCode> {
    let all = case::load(&place::home().join("cases"))?;
    let differences = Differences::load()?;
    let mut used = guests::of(&all);
    used.extend(matrix::guests());
    guests::all_used(&used)?;
    suite::all_explained(&all, &differences)?;
    let prefix = args.case.as_deref().unwrap_or_default();
    let cases: Vec<Case> = all.into_iter().filter(|case| case.name.starts_with(prefix)).collect();
    let mut cells = matrix::cells();
    cells.retain(|cell| cell.name().starts_with(prefix));
    if cases.is_empty() && cells.is_empty() {
        bail!("no case begins with {prefix}");
    }
    let hosts = hosts(args.host, args.portcullis.clone())?;
    let mut names = guests::of(&cases);
    names.extend(cells.iter().map(|cell| -> &str { cell.guest() }));
    let compiled = guests::compile(&names, &mut |step| say(step))?;
    let cases = playable(cases, &compiled)?;
    let done = |report: &Report| tell(args.output, report);
    let mut reports = suite::run(&cases, &hosts, &compiled.modules, &done);
    let filled = suite::fill(&hosts, &cells, &compiled.modules)?;
    let table = Table::load()?;
    for (name, results) in filled {
        let mut judged = suite::judge(name, results, &table);
        tell_cells(args.output, name, &judged);
        let envoy = hosts.iter().find(|host| host.name() == name && name == HostName::Envoy);
        if let Some(envoy) = envoy {
            suite::once_more(&mut judged, name, |failed| {
                let again: Vec<Cell> =
                    cells.iter().filter(|cell| failed(&cell.name())).cloned().collect();
                let second = matrix::fill(envoy, &compiled.modules, &again)?;
                Ok(suite::judge(name, second, &table))
            })?;
        }
        reports.extend(judged);
    }
    if let (None, Some(Host::Portcullis(portcullis))) = (&args.case, hosts.first()) {
        reports.extend(hostile::run(&hostile::load()?, portcullis, &done)?);
    }
    for report in reports.iter().filter(|report| report.first_try.is_some()) {
        let first = report.first_try.iter().flatten().map(|problem| format!("\n    {problem}"));
        let first: String = first.collect();
        say(&format!("{} {}: at the first try{first}", report.host, report.case));
    }
    finish(args.output, &reports)
}

fn http2(args: H2specArgs) -> Result<ExitCode> {
    let program = match h2spec::install()? {
        h2spec::Found::Here(program) => program,
        h2spec::Found::Missing(why) if std::env::var_os("CI").is_some() => {
            bail!("no h2spec: {why}")
        }
        h2spec::Found::Missing(why) => {
            say(&format!("h2spec: skipped, {why}"));
            return Ok(ExitCode::SUCCESS);
        }
    };
    let portcullis =
        args.portcullis.map_or_else(Portcullis::build, |path| Ok(Portcullis::at(path)))?;
    let tested = h2spec::run(&program, &portcullis)?;
    let differences = Differences::load()?;
    let mut failed = 0;
    for test in &tested {
        let Some(failure) = &test.failure else { continue };
        let verdict = match differences.of_cell(&format!("h2spec/{}", test.id)) {
            Some(entry) => format!("explained by {entry}"),
            None => {
                failed += 1;
                "FAILED".to_owned()
            }
        };
        say(&format!(
            "{}: {}: {verdict}\n    {}",
            test.id,
            test.about,
            failure.replace('\n', "\n    ")
        ));
    }
    let passed = tested.iter().filter(|test| test.failure.is_none()).count();
    say(&format!("h2spec: {passed} passed, {failed} failed"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Leaves out cases whose guests no compiler here can make; in CI there are none.
fn playable(cases: Vec<Case>, compiled: &Compiled) -> Result<Vec<Case>> {
    for (guest, why) in &compiled.missing {
        if std::env::var_os("CI").is_some() {
            bail!("guest {guest}: {why}");
        }
        say(&format!("guest {guest}: its cases are skipped, {why}"));
    }
    let made = |case: &Case| {
        case.filters.iter().all(|filter| !compiled.missing.contains_key(&filter.guest))
    };
    Ok(cases.into_iter().filter(made).collect())
}

fn mutate(args: &MutateArgs) -> Result<ExitCode> {
    let mut mutants = mutate::mutants();
    mutants.retain(|mutant| args.call.as_ref().is_none_or(|call| mutant.import() == *call));
    ensure!(!mutants.is_empty(), "no cell makes this call");
    let cases = case::load(&place::home().join("cases"))?;
    let mut names = guests::of(&cases);
    names.extend(matrix::guests());
    let compiled = guests::compile(&names, &mut |step| say(step))?;
    let suite = mutate::Suite {
        host: &Host::Portcullis(program(args.portcullis.clone())?),
        cases: &playable(cases, &compiled)?,
        modules: &compiled.modules,
        table: &Table::load()?,
    };
    let done = |report: &Report| tell(args.output, report);
    finish(args.output, &mutate::run(&mutants, &suite, &done)?)
}

fn hostile(args: &HostileArgs) -> Result<ExitCode> {
    let guests = hostile::named(args.case.as_deref().unwrap_or_default())?;
    let portcullis = program(args.portcullis.clone())?;
    let done = |report: &Report| tell(args.output, report);
    finish(args.output, &hostile::run(&guests, &portcullis, &done)?)
}

fn table(args: &TableArgs) -> Result<ExitCode> {
    let cells = matrix::cells();
    let table = if args.check { Table::load()? } else { filled(&cells, args.portcullis.clone())? };
    let differences = Differences::load()?;
    let text = table.render(&cells, &differences);
    if !args.check {
        table::save(&text)?;
    } else if let Some(stale) = table::first_difference(&table::committed()?, &text) {
        bail!("TABLE.md is stale: {stale}");
    }
    let unexplained = table.unexplained(&differences);
    ensure!(unexplained.is_empty(), "not in DIFFERENCES.md: {unexplained:#?}");
    let all = case::load(&place::home().join("cases"))?;
    let idle = suite::idle(&all, &table, &differences);
    ensure!(idle.is_empty(), "in DIFFERENCES.md, but nothing differs so: {idle:?}");
    Ok(ExitCode::SUCCESS)
}

fn filled(cells: &[Cell], portcullis: Option<PathBuf>) -> Result<Table> {
    let hosts = hosts(None, portcullis)?;
    ensure!(hosts.len() == HostName::ALL.len(), "the table needs both hosts");
    let compiled = guests::compile(&matrix::guests().collect(), &mut |step| say(step))?;
    say(&format!("{} cells on both hosts", cells.len()));
    Ok(Table::of(suite::fill(&hosts, cells, &compiled.modules)?))
}

fn program(given: Option<PathBuf>) -> Result<Portcullis> {
    given.map_or_else(Portcullis::build, |path| Ok(Portcullis::at(path)))
}

fn hosts(only: Option<HostArg>, portcullis: Option<PathBuf>) -> Result<Vec<Host>> {
    let mut hosts = Vec::new();
    if only != Some(HostArg::Envoy) {
        hosts.push(Host::Portcullis(program(portcullis)?));
    }
    if only != Some(HostArg::Portcullis) {
        match Envoy::install()? {
            Found::Here(envoy) => hosts.push(Host::Envoy(envoy)),
            Found::Missing(why) if std::env::var_os("CI").is_some() => bail!("no Envoy: {why}"),
            Found::Missing(why) => say(&format!("{}: skipped, {why}", HostName::Envoy)),
        }
    }
    Ok(hosts)
}

fn finish(output: Output, reports: &[Report]) -> Result<ExitCode> {
    let failed = reports.iter().filter(|report| !report.problems.is_empty()).count();
    match output {
        Output::Json => {
            let text =
                serde_json::to_string_pretty(reports).context("a report has no JSON form")?;
            writeln!(io::stdout(), "{text}")?;
        }
        Output::Text => {
            // Hundreds of lines may have come since.
            reports
                .iter()
                .filter(|report| !report.problems.is_empty())
                .for_each(|report| tell(output, report));
            say(&format!("{} passed, {failed} failed", reports.len() - failed));
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(output: Output, report: &Report) {
    if output == Output::Json {
        return;
    }
    let verdict = if report.problems.is_empty() { "ok" } else { "FAILED" };
    let problems = report.problems.iter().map(|problem| format!("\n    {problem}"));
    say(&format!(
        "{:10} {:6} {}{}",
        report.host,
        verdict,
        report.case,
        problems.collect::<String>()
    ));
}

/// There are thousands: those that fail one by one, the rest in a line.
fn tell_cells(output: Output, host: HostName, reports: &[Report]) {
    let failed = reports.iter().filter(|report| !report.problems.is_empty());
    failed.for_each(|report| tell(output, report));
    let fine = reports.iter().filter(|report| report.problems.is_empty()).count();
    if output == Output::Text && !reports.is_empty() {
        say(&format!("{host:10} ok     matrix: {fine} of {} cells", reports.len()));
    }
}

/// For people; whoever has closed standard error does not read it.
fn say(line: &str) {
    let _unread = writeln!(io::stderr(), "{line}");
}
