//! DIFFERENCES.md: its entries by name, and which cells of the table each explains. The text is for people.
//!
//! An entry begins with a heading of the form ```### `name`: title```; a line in it that begins with `Cells:` lists
//! patterns of cells in backticks, in which `*` stands for anything.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::place;

/// All entries.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    cells: Vec<String>,
}

impl Differences {
    /// Of this tree.
    ///
    /// # Errors
    /// The file cannot be read, or two entries have one name.
    pub fn load() -> Result<Differences> {
        let file = place::home().join("DIFFERENCES.md");
        Differences::parse(&fs::read_to_string(file).context("DIFFERENCES.md")?)
    }

    /// Of a text.
    ///
    /// # Errors
    /// Two entries have one name, or cells stand outside of an entry.
    pub fn parse(text: &str) -> Result<Differences> {
        let mut entries: Vec<Entry> = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("### `").and_then(|rest| rest.split('`').next()) {
                let known = entries.iter().any(|entry| entry.name == name);
                ensure!(!known, "DIFFERENCES.md has two entries {name}");
                entries.push(Entry { name: name.to_owned(), cells: Vec::new() });
            } else if let Some(cells) = line.strip_prefix("Cells:") {
                let entry = entries.last_mut().context("cells before the first entry")?;
                entry.cells.extend(cells.split('`').skip(1).step_by(2).map(str::to_owned));
            }
        }
        Ok(Differences { entries })
    }

    /// Whether there is an entry of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }

    /// The entry that explains a cell.
    #[must_use]
    pub fn of_cell(&self, cell: &str) -> Option<&str> {
        let explains = |entry: &&Entry| entry.cells.iter().any(|pattern| fits(pattern, cell));
        self.entries.iter().find(explains).map(|entry| entry.name.as_str())
    }

    /// Entries that explain a cell whose name begins so.
    pub fn about(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let explains =
            move |entry: &&Entry| entry.cells.iter().any(|cell| cell.starts_with(prefix));
        self.entries.iter().filter(explains).map(|entry| entry.name.as_str())
    }

    /// Entries that nothing in `used` names.
    #[must_use]
    pub fn idle(&self, used: &BTreeSet<&str>) -> Vec<&str> {
        let names = self.entries.iter().map(|entry| entry.name.as_str());
        names.filter(|name| !used.contains(name)).collect()
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
}
