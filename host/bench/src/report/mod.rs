//! What came out: rows of figures, targets met or missed; as text for people, as JSON, and as the tables of BENCHMARKS.md.

mod document;
mod machine;
mod table;
mod targets;
mod row;

pub use document::{PATH, between, write};
pub use machine::Machine;
pub use row::{Row, YARDSTICKS, compared, find};
pub use table::{Table, align};
pub use targets::{Target, targets};

use serde::Serialize;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of this form.
    pub schema: &'static str,
    /// What was typed.
    pub command: String,
    /// Where and with what.
    pub machine: Machine,
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
    pub const SCHEMA: &str = "portcullis.bench/2";
}
