//! `portcullis build`: compiles a filter to a checked module with the crate `portcullis-build`.

use std::path::PathBuf;

use clap::ValueEnum;
use portcullis_build::{BuildError, Built, Install, Options, Target, build};
use serde_json::json;

use super::{Exit, Outcome};
use crate::diagnose::{Code, Problem};
use crate::term::Term;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The filter's folder or its Cargo.toml
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Flavour of Wasm
    #[arg(long, value_enum, default_value = "wasm32-wasip1")]
    pub target: TargetName,
    /// Fail rather than install a toolchain
    #[arg(long)]
    pub no_install: bool,
    /// Where to put the module
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Values of `--target`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TargetName {
    /// With WASI.
    #[value(name = "wasm32-wasip1")]
    Wasip1,
    /// Without.
    #[value(name = "wasm32-unknown-unknown")]
    Unknown,
}

/// Compiles; the last line of the result is `path size sha256:digest`.
pub fn run(args: &Args, term: &Term) -> Outcome {
    let mut options = Options::new(&args.path);
    options.target = match args.target {
        TargetName::Wasip1 => Target::Wasip1,
        TargetName::Unknown => Target::Unknown,
    };
    if args.no_install {
        options.install = Install::Refused;
    }
    options.output.clone_from(&args.output);
    match build(&options, &mut |step| term.say(step)) {
        Ok(built) => succeeded(&built, term),
        Err(error) => failed(&error, term),
    }
}

fn succeeded(built: &Built, term: &Term) -> Outcome {
    let path = built.path.display();
    term.say(&format!("{} in {:.1} s", built.toolchain, built.elapsed.as_secs_f64()));
    let data = json!({
        "schema": "portcullis.build/1",
        "path": path.to_string(),
        "size": built.size,
        "sha256": built.digest,
        "toolchain": built.toolchain,
    });
    Outcome::fine(format!("{path} {} sha256:{}", built.size, built.digest), data)
}

fn failed(error: &BuildError, term: &Term) -> Outcome {
    let (exit, problem) = match error {
        BuildError::Manifest { path, problem } => {
            let title = format!("no filter to compile in {}", path.display());
            (Exit::Invalid, Problem::new(Code::P0207, title).because(problem))
        }
        BuildError::Toolchain { target, tried, remedies } => {
            let title = format!("no Rust toolchain here compiles to {target}");
            let problem = Problem::new(Code::P0208, title).because(tried.join("\n"));
            (Exit::Unavailable, problem.hint(remedies.join("\n")))
        }
        BuildError::Compile { package, stderr } => {
            term.complain(stderr);
            (Exit::Failed, Problem::new(Code::P0207, format!("{package} does not compile")))
        }
        BuildError::Module { path, problem } => {
            let title = format!("{} is no module that hosts accept", path.display());
            (Exit::Invalid, Problem::new(Code::P0203, title).because(problem))
        }
        BuildError::Program { program, source } => {
            let title = format!("cannot run {program}");
            (Exit::Unavailable, Problem::new(Code::P0208, title).because(source.to_string()))
        }
        BuildError::File { path, source } => {
            let title = format!("cannot read or write {}", path.display());
            (Exit::Failed, Problem::new(Code::P0401, title).because(source.to_string()))
        }
        other => (Exit::Failed, Problem::new(Code::P0207, other.to_string())),
    };
    Outcome::failed(exit, problem)
}
