//! BENCHMARKS.md: the parts between markers are written anew, what stands around them is by hand.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use super::table::align;
use super::{Report, Table};
use crate::figures::{Metric, short};
use crate::place;

/// In the workspace.
pub const PATH: &str = "BENCHMARKS.md";

/// Writes a part of the document.
///
/// # Errors
/// The document is not there or has no such markers.
pub fn write(part: &str, text: &str) -> Result<()> {
    let file = place::workspace().join(PATH);
    let whole = fs::read_to_string(&file).with_context(|| PATH.to_owned())?;
    Ok(fs::write(file, between(&whole, part, text)?)?)
}

/// The document with other text between `<!-- PART -->` and `<!-- end of PART -->`.
///
/// # Errors
/// A marker is missing.
pub fn between(whole: &str, part: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {part} -->"), format!("<!-- end of {part} -->"));
    let (before, rest) = whole.split_once(&begin).with_context(|| format!("no {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no {end}"))?;
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim()))
}

impl Report {
    /// What made the figures: command, machine, versions.
    #[must_use]
    pub fn origin(&self) -> String {
        let machine = &self.machine;
        let others = self.rows.iter().filter_map(|row| row.figures.get(&Metric::OthersPercent));
        let others = others.map(|figure| figure.max).fold(0.0, f64::max);
        format!(
            "`{}`, {} rounds of {} s, {}; at most {others:.0} % of the proxy's core went to others. {}, {} cores, Linux {}. {}.",
            self.command,
            self.rounds(),
            self.seconds,
            machine.date,
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.versions.join("; "),
        )
    }

    /// How many there were, from the least to the most.
    fn rounds(&self) -> String {
        let counts = self.rows.iter().flat_map(|row| row.rounds.values()).map(Vec::len);
        let counts = counts.collect::<BTreeSet<_>>();
        let ends = [counts.first(), counts.last()].into_iter().flatten().map(usize::to_string);
        let mut ends: Vec<String> = ends.collect();
        ends.dedup();
        ends.join("–")
    }

    /// The targets as a table.
    #[must_use]
    pub fn targets(&self) -> String {
        let head = ["target", "goal", "floor", "measured", "", "Envoy"];
        let mut cells = vec![head.map(str::to_owned).to_vec()];
        cells.extend(self.targets.iter().map(|target| {
            let [goal, floor] = [target.goal, target.floor].map(short);
            let envoy = target.envoy.map_or_else(String::new, |figure| figure.to_string());
            let (what, verdict) = (target.what.to_owned(), target.verdict().to_owned());
            vec![what, goal, floor, target.figure.to_string(), verdict, envoy]
        }));
        align(&cells)
    }

    /// All of it in Markdown.
    #[must_use]
    pub fn markdown(&self, tables: &[Table]) -> String {
        let mut text = format!("{}\n\n{}", self.origin(), self.targets());
        for table in tables {
            let _infallible = write!(text, "\n### {}\n\n{}", table.title, table.text);
        }
        text
    }
}
