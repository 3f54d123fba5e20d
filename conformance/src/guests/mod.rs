//! Guests: what lies under `guests/` and `filters/`, each compiled once in a run.
//!
//! A guest that no case uses is not compiled: nobody would notice what it does. One whose compiler this machine does not
//! have is missing, with the reason; what follows from that is for the caller to say.

mod languages;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::case::Case;
use crate::place;
use languages::{Language, Outcome};

/// Folders under `guests/` in which cases find nothing.
const NOT_FOR_CASES: [&str; 2] = ["hostile", "target"];

/// Compiled modules, by the names that cases use.
pub type Modules = BTreeMap<String, PathBuf>;

/// What became of some guests.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// Those that are there.
    pub modules: Modules,
    /// Those that this machine cannot compile, and why.
    pub missing: BTreeMap<String, String>,
}

/// The names of all guests that cases may use; hostile ones have a table of their own.
///
/// # Errors
/// The folder cannot be read.
pub fn list() -> Result<BTreeSet<String>> {
    let home = place::home().join("guests");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(&home)? {
        let folder = entry?.path();
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        if Language::of_folder(&folder).is_some() {
            found.insert(name.to_owned());
        } else if folder.is_dir() && !NOT_FOR_CASES.contains(&name) {
            let files = fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
            let guests = files.filter(|file| Language::of_file(file).is_some());
            let names = guests.filter_map(|file| file.file_name()?.to_str().map(str::to_owned));
            found.extend(names.map(|file| format!("{name}/{file}")));
        }
    }
    Ok(found)
}

/// Refuses guests that nobody uses.
///
/// # Errors
/// Names them.
pub fn all_used(used: &BTreeSet<&str>) -> Result<()> {
    let all = list()?;
    let idle: Vec<&String> = all.iter().filter(|name| !used.contains(name.as_str())).collect();
    ensure!(idle.is_empty(), "guests without a case: {idle:?}");
    Ok(())
}

/// The guests of some cases.
pub fn of<'a>(cases: impl IntoIterator<Item = &'a Case>) -> BTreeSet<&'a str> {
    cases.into_iter().flat_map(|case| &case.filters).map(|filter| filter.guest.as_str()).collect()
}

/// Compiles some guests. `progress` gets a line for each step.
///
/// # Errors
/// One is not there or does not compile.
pub fn compile(names: &BTreeSet<&str>, progress: &mut dyn FnMut(&str)) -> Result<Compiled> {
    let folder = place::kept().join("modules");
    fs::create_dir_all(&folder)?;
    let mut compiled = Compiled::default();
    for name in names {
        let output = folder.join(format!("{}.wasm", name.replace('/', "-")));
        let source = match name.strip_prefix("filters/") {
            Some(_) => place::home().with_file_name(name),
            None => place::home().join("guests").join(name),
        };
        let outcome = Language::of(&source)
            .context("there is none")
            .and_then(|language| language.compile(&source, &output, progress))
            .with_context(|| format!("guest {name}"))?;
        match outcome {
            Outcome::Compiled => compiled.modules.insert((*name).to_owned(), output).map(drop),
            Outcome::NoCompiler(why) => compiled.missing.insert((*name).to_owned(), why).map(drop),
        };
    }
    Ok(compiled)
}
