//! The command line: what was typed, and how the outcome is shown.
//!
//! Each verb is a file with `Args` (what was typed) and `run(&Args, &Term) -> Outcome`. This file parses, dispatches and
//! renders; it knows nothing of what a verb does.

pub mod build;
pub mod check;
pub mod compile;
pub mod demo;
pub mod explain;
pub mod inspect;
pub mod pull;
pub mod push;
mod push_config_map;
pub mod push_image;
pub mod registry;
mod room;
pub mod run;
pub mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::Value;

use crate::diagnose::{Problem, Report};
use crate::term::{ColorChoice, Format, Term, Verbosity};

/// How the process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exit {
    /// 0
    #[default]
    Fine,
    /// 1: it was tried and failed.
    Failed,
    /// 65: documents or a module are wrong.
    Invalid,
    /// 69: something that is needed is not there.
    Unavailable,
    /// 78: this machine does not permit it, such as a port in use.
    Setup,
    /// 79: warnings under `--strict`.
    Warnings,
}

impl Exit {
    /// The number that the shell sees. Wrong usage is 2, which clap says itself.
    pub fn code(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Failed => 1,
            Exit::Invalid => 65,
            Exit::Unavailable => 69,
            Exit::Setup => 78,
            Exit::Warnings => 79,
        }
    }
}

/// What a verb came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How the process ends.
    pub exit: Exit,
    /// The result for people, on stdout; may be empty.
    pub text: String,
    /// The result for programs, on stdout with `-o json`; carries a `schema`.
    pub data: Option<Value>,
    /// What went wrong, on stderr. With `-o json` and no `data` they are the result.
    pub problems: Vec<Problem>,
    /// The obvious next step, on stderr.
    pub next: Option<String>,
}

impl Outcome {
    /// Success with a result.
    pub fn fine(text: impl Into<String>, data: Value) -> Outcome {
        Outcome { text: text.into(), data: Some(data), ..Outcome::default() }
    }

    /// Failure with one problem.
    pub fn failed(exit: Exit, problem: Problem) -> Outcome {
        Outcome { exit, problems: vec![problem], ..Outcome::default() }
    }

    fn render(&self, term: &Term) {
        for problem in &self.problems {
            term.complain(&problem.render(term.err));
        }
        match (term.format, &self.data) {
            (Format::Text, _) if self.text.is_empty() => {}
            (Format::Text, _) => term.result(&self.text),
            (Format::Json, Some(data)) => term.result(&pretty(data)),
            (Format::Json, None) if self.problems.is_empty() => {}
            (Format::Json, None) => {
                term.result(&pretty(&Report::new("portcullis.problems/1", &self.problems)));
            }
        }
        if let Some(next) = &self.next {
            term.say(&format!("Next: {next}"));
        }
    }
}

fn pretty(data: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(data).unwrap_or_default()
}

/// A proxy that you program with WebAssembly
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, max_term_width = 100, after_long_help = EXIT_CODES)]
pub struct Line {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Form of the result
    #[arg(short = 'o', long, global = true, value_enum, default_value = "text")]
    pub format: FormatName,
    /// Say less on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more on stderr
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to use colours; NO_COLOR is respected
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: ColorName,
}

const EXIT_CODES: &str = "\
Examples:
  portcullis check -c conf/         is this configuration right?
  portcullis explain P0105          what does that mean?

Exit codes: 0 fine, 1 failed, 2 wrong usage, 65 invalid input, 69 something needed is unavailable,
78 this machine's set-up (a port in use), 79 warnings under --strict";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// See it work: three filters, an application, changes under traffic
    Demo(demo::Args),
    /// Serve traffic with documents from files and folders
    Run(run::Args),
    /// Is this configuration right? Reports every problem, runs nothing
    Check(check::Args),
    /// What running proxies have live, what they refused, and why
    Status(status::Args),
    /// Compile a filter to a small, checked module
    Build(build::Args),
    /// What a module is and needs, and which hosts it loads on; runs nothing
    Inspect(inspect::Args),
    /// Publish a module in a registry, in a form that everybody reads, or in a cluster's ConfigMaps
    Push(push::Args),
    /// Fetch the module of an image and pin it
    Pull(pull::Args),
    /// What a problem's code means, with an example
    Explain(explain::Args),
    /// Compile the module on standard input into the cache; `run` does this
    #[command(hide = true)]
    Compile(compile::Args),
}

/// Values of `-o`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatName {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Values of `--color`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ColorName {
    /// On a terminal.
    Auto,
    /// Also into pipes.
    Always,
    /// Nowhere.
    Never,
}

impl Line {
    fn term(&self) -> Term {
        let color = match self.color {
            ColorName::Auto => ColorChoice::Auto,
            ColorName::Always => ColorChoice::Always,
            ColorName::Never => ColorChoice::Never,
        };
        let format = match self.format {
            FormatName::Text => Format::Text,
            FormatName::Json => Format::Json,
        };
        let verbosity = match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Term::new(color, format, verbosity)
    }
}

/// Parses the process's arguments, carries the verb out and shows the outcome.
pub fn main() -> ExitCode {
    let line = Line::parse();
    let term = line.term();
    let outcome = match &line.verb {
        Verb::Demo(args) => demo::run(args, &term),
        Verb::Run(args) => run::run(args, &term),
        Verb::Check(args) => check::run(args, &term),
        Verb::Status(args) => status::run(args, &term),
        Verb::Build(args) => build::run(args, &term),
        Verb::Inspect(args) => inspect::run(args, &term),
        Verb::Push(args) => push::run(args, &term),
        Verb::Pull(args) => pull::run(args, &term),
        Verb::Explain(args) => explain::run(args, &term),
        Verb::Compile(args) => compile::run(args),
    };
    outcome.render(&term);
    ExitCode::from(outcome.exit.code())
}
