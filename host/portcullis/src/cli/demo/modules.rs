//! The demo's filters: found in the workspace around us, compiled to Wasm.

use std::env;
use std::path::{Path, PathBuf};

use portcullis_build::{BuildError, Built, Options, build};

use crate::diagnose::{Code, Problem};
use crate::term::Term;

/// The shipped filters, as their folders and their modules are called.
pub const FILTERS: [&str; 3] = ["authz", "canary", "fault"];

/// Compiles the three filters into `folder`.
///
/// # Errors
/// There is no workspace around us, or a filter does not compile.
pub fn compile(folder: &Path, term: &Term) -> Result<Vec<Built>, Vec<Problem>> {
    let filters = find_filters().ok_or_else(|| {
        let problem = Problem::new(Code::P0207, "the sources of the demo's filters are not here")
            .because("no folder filters/ with authz, canary and fault above the current folder or the program")
            .hint("run it in a clone of the repository: cargo run --release -- demo");
        vec![problem]
    })?;
    FILTERS.iter().map(|name| compile_one(&filters, name, folder, term)).collect()
}

fn compile_one(
    filters: &Path,
    name: &str,
    folder: &Path,
    term: &Term,
) -> Result<Built, Vec<Problem>> {
    term.say(&format!("compiling filters/{name} to Wasm"));
    let mut options = Options::new(filters.join(name));
    options.output = Some(folder.join(format!("{name}.wasm")));
    build(&options, &mut |step| term.say(&format!("  {step}")))
        .map_err(|error| problems(name, &error))
}

fn problems(name: &str, error: &BuildError) -> Vec<Problem> {
    let code = match error {
        BuildError::Toolchain { .. } | BuildError::Program { .. } => Code::P0208,
        _ => Code::P0207,
    };
    let problem = Problem::new(code, format!("filters/{name} cannot be compiled"));
    vec![problem.because(error.to_string())]
}

/// `filters/` of the workspace that holds the current folder or the running program.
fn find_filters() -> Option<PathBuf> {
    let starts = [env::current_dir().ok(), env::current_exe().ok()];
    starts.into_iter().flatten().find_map(|start| {
        let candidates = start.ancestors().map(|folder| folder.join("filters"));
        candidates.into_iter().find(|filters| {
            FILTERS.iter().all(|name| filters.join(name).join("Cargo.toml").is_file())
        })
    })
}
