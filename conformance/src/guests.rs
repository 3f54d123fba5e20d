//! Guests: every folder under `guests/` is a crate or holds `.wat` files; each is compiled once in a run.
//!
//! A guest that no case uses is not compiled: nobody would notice what it does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use portcullis_build::{Options, Target, build};

use crate::case::Case;
use crate::place;

/// Compiled modules, by the names that cases use.
pub type Modules = BTreeMap<String, PathBuf>;

/// The names of all guests.
///
/// # Errors
/// The folder cannot be read.
pub fn list() -> Result<BTreeSet<String>> {
    let home = place::home().join("guests");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(&home)? {
        let folder = entry?.path();
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        if folder.join("Cargo.toml").is_file() {
            found.insert(name.to_owned());
        } else if folder.is_dir() && name != "target" {
            let texts = fs::read_dir(&folder)?.flatten().map(|entry| entry.file_name());
            let texts = texts.filter_map(|file| file.into_string().ok());
            let texts = texts.filter(|file| file.ends_with(".wat"));
            found.extend(texts.map(|file| format!("{name}/{file}")));
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
pub fn compile(names: &BTreeSet<&str>, progress: &mut dyn FnMut(&str)) -> Result<Modules> {
    let folder = place::kept().join("modules");
    fs::create_dir_all(&folder)?;
    names
        .iter()
        .map(|name| {
            let output = folder.join(format!("{}.wasm", name.replace('/', "-")));
            compile_one(name, &output, progress).with_context(|| format!("guest {name}"))?;
            Ok(((*name).to_owned(), output))
        })
        .collect()
}

fn compile_one(name: &str, output: &Path, progress: &mut dyn FnMut(&str)) -> Result<()> {
    let guests = place::home().join("guests");
    if name.ends_with(".wat") {
        fs::write(output, wat::parse_file(guests.join(name))?)?;
        return Ok(());
    }
    let folder = match name.strip_prefix("filters/") {
        Some(_) => place::home().with_file_name(name),
        None => guests.join(name),
    };
    let mut options = Options::new(folder);
    options.target = Target::Wasip1;
    options.target_dir = Some(place::target().join("wasm"));
    options.output = Some(output.to_owned());
    build(&options, progress)?;
    Ok(())
}
