//! What becomes of each hostile guest: `hostile.toml`, one entry for each file under `guests/hostile/`.
//!
//! Data only; nothing here runs anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::case::Exchange;
use crate::place;

/// Where the guests lie, under `guests/`.
const FOLDER: &str = "hostile";

/// One guest and its verdict: refused, trapped, or served.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// Of its file, without the ending.
    pub name: String,
    /// Code of the problem for which the filter never goes live.
    pub refused: Option<String>,
    /// Part of what that problem says.
    pub says: Option<String>,
    /// Reason for which its instance dies.
    pub trap: Option<String>,
    /// Callback in which it dies.
    #[serde(rename = "in")]
    pub callback: Option<String>,
    /// Host calls that are counted as violations; all of them.
    #[serde(default)]
    pub counted: BTreeSet<String>,
    /// `limits` of its filter.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
    /// Another module in its place.
    #[serde(skip)]
    pub instead: Option<Vec<u8>>,
    /// How many requests it gets.
    #[serde(default = "once")]
    pub times: usize,
    /// Requests of others that are served while it may do what it wants, at the least.
    #[serde(default = "some")]
    pub others: usize,
    /// What it gets, and what becomes of the last one.
    #[serde(default)]
    pub request: Exchange,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(rename = "guest")]
    guests: Vec<Guest>,
}

impl Guest {
    /// As cases would name it.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{FOLDER}/{}.wat", self.name)
    }

    /// The module.
    ///
    /// # Errors
    /// The file is not there or is no Wasm.
    pub fn module(&self) -> Result<Vec<u8>> {
        if let Some(module) = &self.instead {
            return Ok(module.clone());
        }
        Ok(wat::parse_file(place::home().join("guests").join(self.file()))?)
    }
}

/// All guests, in the table's order.
///
/// # Errors
/// The table cannot be read, names a guest twice, claims a trap without a callback, or lacks a guest.
pub fn load() -> Result<Vec<Guest>> {
    let path = place::home().join("hostile.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let Table { guests } = toml::from_str(&text).context("hostile.toml")?;
    let mut names = BTreeSet::new();
    for guest in &guests {
        let name = &guest.name;
        ensure!(names.insert(name), "hostile.toml: {name} twice");
        ensure!(guest.trap.is_some() == guest.callback.is_some(), "hostile.toml: {name}: where?");
    }
    let files: BTreeSet<String> = guests.iter().map(Guest::file).collect();
    ensure!(files == there()?, "hostile.toml does not have exactly the guests that there are");
    Ok(guests)
}

/// All files.
fn there() -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(place::home().join("guests").join(FOLDER))?;
    entries.map(|entry| Ok(format!("{FOLDER}/{}", entry?.file_name().to_string_lossy()))).collect()
}

fn once() -> usize {
    1
}

fn some() -> usize {
    3
}
