//! The filters that are measured, compiled from source: one module for every proxy.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use portcullis_build::{Options, build};

use crate::place;
use crate::scenario::Scenario;

/// Where compiled modules lie, by the names that scenarios use.
pub type Modules = BTreeMap<String, PathBuf>;

/// Compiles what the scenarios use. `say` gets a line for each step.
///
/// # Errors
/// One is not there or does not compile.
pub fn compile(scenarios: &[Scenario], say: &mut dyn FnMut(&str)) -> Result<Modules> {
    let mut modules = Modules::new();
    for filters in scenarios.iter().filter_map(|scenario| scenario.filter.as_ref()) {
        if !modules.contains_key(&filters.module) {
            modules.insert(filters.module.clone(), one(&filters.module, say)?);
        }
    }
    Ok(modules)
}

/// Compiles one, by its folder below `host/bench` or the workspace; where it lies then.
///
/// # Errors
/// It is not there or does not compile.
pub fn one(name: &str, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let folder = place::kept().join("modules");
    fs::create_dir_all(&folder)?;
    let own = place::home().join(name);
    let source = if own.is_dir() { own } else { place::workspace().join(name) };
    let output = folder.join(format!("{}.wasm", name.replace('/', "-")));
    let mut options = Options::new(source);
    options.target_dir = Some(place::target().join("wasm"));
    options.output = Some(output.clone());
    build(&options, say).with_context(|| format!("module {name}"))?;
    Ok(output)
}
