//! What came out: rows of figures, targets met or missed; as text for people, as JSON, and as the tables of BENCHMARKS.md.

mod document;
mod machine;
mod table;
mod targets;

pub use document::{PATH, between, write};
pub use machine::Machine;
pub use table::{Table, align};
pub use targets::{Target, targets};

use std::collections::BTreeMap;

use serde::Serialize;

use crate::figures::{Figure, Metric};
use crate::scenario::{Load, PeerName};

/// One proxy under one load.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scenario's name.
    pub scenario: String,
    /// How much was asked.
    pub load: Load,
    /// Who was asked.
    pub peer: PeerName,
    /// Whether it ran without the scenario's filters, because it runs none.
    pub plain: bool,
    /// What was measured.
    pub figures: BTreeMap<Metric, Figure>,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of this form.
    pub schema: &'static str,
    /// What was typed.
    pub command: String,
    /// Where and with what.
    pub machine: Machine,
    /// Rounds of each row.
    pub rounds: u32,
    /// Of each round.
    pub seconds: u32,
    /// In the order of scenarios, loads and peers.
    pub rows: Vec<Row>,
    /// Met or missed.
    pub targets: Vec<Target>,
    /// A proxy did not start or did other work than it should: why there are no rows of its group.
    pub failures: Vec<String>,
}

impl Report {
    /// The form of the JSON.
    pub const SCHEMA: &str = "portcullis.bench/1";
}

/// The median of a metric in a row, if it was measured.
#[must_use]
pub fn median(
    rows: &[Row],
    scenario: &str,
    load: Load,
    peer: PeerName,
    metric: Metric,
) -> Option<f64> {
    let wanted = |row: &&Row| row.scenario == scenario && row.load == load && row.peer == peer;
    Some(rows.iter().find(wanted)?.figures.get(&metric)?.median)
}
