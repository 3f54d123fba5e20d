//! Tables: one for each scenario and load, the same text for a terminal and for Markdown.

use std::collections::BTreeSet;

use crate::figures::{Metric, short};
use crate::scenario::{Load, Scenario};

use super::{Row, YARDSTICKS};

/// A scenario under one load.
#[derive(Clone, Debug)]
pub struct Table {
    /// What stands above it.
    pub title: String,
    /// Head and rows, aligned.
    pub text: String,
}

impl Table {
    /// All tables of these rows, in the order of the scenarios.
    #[must_use]
    pub fn all(scenarios: &[Scenario], rows: &[Row]) -> Vec<Table> {
        let mut tables = Vec::new();
        for scenario in scenarios {
            for load in &scenario.loads {
                let own = |row: &&Row| row.scenario == scenario.name && row.load == *load;
                let own: Vec<&Row> = rows.iter().filter(own).collect();
                if !own.is_empty() {
                    tables.push(Table::of(scenario, *load, &own));
                }
            }
        }
        tables
    }

    fn of(scenario: &Scenario, load: Load, rows: &[&Row]) -> Table {
        let about = match load {
            Load::Rate(rate) => format!(", {rate} requests/s"),
            Load::Saturated | Load::Idle(_) => String::new(),
        };
        let metrics = rows.iter().flat_map(|row| row.figures.keys()).copied();
        let metrics: BTreeSet<Metric> = metrics.filter(|metric| metric.is_shown()).collect();
        let cost = rows.iter().find_map(|row| row.cost());
        let mut head = vec![String::new()];
        for metric in &metrics {
            head.push(metric.title().to_owned());
            if Some(*metric) == cost {
                head.extend(YARDSTICKS.map(|other| format!("× {other}")));
            }
        }
        let mut cells = vec![head];
        for row in rows {
            let without = if row.plain { ", without" } else { "" };
            let mut line = vec![format!("{}{without}", row.peer)];
            for metric in &metrics {
                let figure = row.figures.get(metric);
                line.push(figure.map_or_else(String::new, ToString::to_string));
                if Some(*metric) == cost {
                    let ratio = |other| row.ratios.get(&other).map(|ratio| short(ratio.median));
                    line.extend(YARDSTICKS.map(|other| ratio(other).unwrap_or_default()));
                }
            }
            cells.push(line);
        }
        let title = format!("`{}`: {}{about}", scenario.name, scenario.about);
        Table { title, text: align(&cells) }
    }
}

/// Cells as a Markdown table whose columns line up; the first row is the head, numbers are on the right.
#[must_use]
pub fn align(cells: &[Vec<String>]) -> String {
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &'_ Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let width = |column: usize| {
        cells.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (at, row) in cells.iter().enumerate() {
        let line = widths.iter().enumerate().map(|(column, width)| match column {
            0 => format!("{:<width$}", cell(row, column)),
            _ => format!("{:>width$}", cell(row, column)),
        });
        text.push_str(&format!("| {} |\n", line.collect::<Vec<_>>().join(" | ")));
        if at == 0 {
            let rule = widths.iter().enumerate().map(|(column, width)| match column {
                0 => "-".repeat(*width),
                _ => "-".repeat(width - 1) + ":",
            });
            text.push_str(&format!("| {} |\n", rule.collect::<Vec<_>>().join(" | ")));
        }
    }
    text
}
