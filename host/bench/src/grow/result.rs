//! What came out: a table for each thing that grew, curves, and in a word whether the growth is worse than linear.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use crate::chart::{Kind, Line, Panel};
use crate::figures::{Figure, Metric, short};
use crate::report::{Machine, align};

use super::Axis;

/// One size of one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What grows.
    pub axis: Axis,
    /// How many there are.
    pub count: u32,
    /// What was measured.
    pub figures: BTreeMap<Metric, Figure>,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was typed.
    pub command: String,
    /// Where and with what.
    pub machine: Machine,
    /// Of each point.
    pub rounds: u32,
    /// Of each round.
    pub seconds: u32,
    /// By axis and size.
    pub rows: Vec<Row>,
    /// Why there are no further rows of an axis.
    pub failures: Vec<String>,
}

/// How cost follows size from the second largest to the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// As good as not at all.
    Flat,
    /// Less than the size.
    Less,
    /// Like the size.
    Linear,
    /// More than the size.
    Worse,
}

/// A cost of so many times the least is still called flat.
const FLAT: f64 = 1.3;
/// What noise alone may add, as a part of the least.
const NOISE: f64 = 0.1;
/// Between less and linear, between linear and worse: of what linear growth would add.
const BANDS: (f64, f64) = (0.6, 1.5);

/// How cost follows size; `None` below three points.
#[must_use]
pub fn growth(points: &[(f64, f64)]) -> Option<Growth> {
    let (first, before, last) = match points {
        [first, .., before, last] => (first, before, last),
        _ => return None,
    };
    if last.1 <= first.1 * FLAT {
        return Some(Growth::Flat);
    }
    let added = (before.1 - first.1).max(first.1 * NOISE);
    let linear = added * (last.0 - first.0) / (before.0 - first.0);
    Some(match (last.1 - first.1) / linear {
        part if part < BANDS.0 => Growth::Less,
        part if part <= BANDS.1 => Growth::Linear,
        _ => Growth::Worse,
    })
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Growth::Flat => "flat",
            Growth::Less => "less than linear",
            Growth::Linear => "linear",
            Growth::Worse => "WORSE THAN LINEAR",
        })
    }
}

impl Row {
    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let figure = |(metric, figure): (&Metric, &Figure)| {
            format!("{} {}", short(figure.median), metric.title())
        };
        let figures: Vec<String> = self.figures.iter().map(figure).collect();
        format!("{} {}: {}", short_count(self.count), self.axis.noun(), figures.join(", "))
    }
}

impl Report {
    fn points(&self, axis: Axis, metric: Metric) -> Vec<(f64, f64)> {
        let point = |row: &Row| Some((f64::from(row.count), row.figures.get(&metric)?.median));
        self.rows.iter().filter(|row| row.axis == axis).filter_map(point).collect()
    }

    /// What made the figures, then a table for each axis; in Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "`{}`, {} rounds of {} s, {}. {}, {} cores, Linux {}. {}.\n",
            self.command,
            self.rounds,
            self.seconds,
            machine.date,
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.versions.join("; "),
        );
        for axis in Axis::ALL {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.axis == axis).collect();
            if !rows.is_empty() {
                let _infallible = write!(text, "\n{}", self.table(axis, &rows));
            }
        }
        text
    }

    fn table(&self, axis: Axis, rows: &[&Row]) -> String {
        let metrics: BTreeSet<Metric> =
            rows.iter().flat_map(|row| row.figures.keys()).copied().collect();
        let mut head = vec![axis.noun().to_owned()];
        head.extend(metrics.iter().map(|metric| metric.title().to_owned()));
        let mut cells = vec![head];
        for row in rows {
            let mut line = vec![short_count(row.count)];
            line.extend(metrics.iter().map(|metric| {
                row.figures.get(metric).map_or_else(String::new, ToString::to_string)
            }));
            cells.push(line);
        }
        let mut last = vec!["growth".to_owned()];
        last.extend(metrics.iter().map(|metric| {
            growth(&self.points(axis, *metric))
                .map_or_else(String::new, |growth| growth.to_string())
        }));
        cells.push(last);
        align(&cells)
    }

    /// The curves; only those of which there are points.
    #[must_use]
    pub fn panels(&self) -> Vec<Panel> {
        let cpu = Metric::CpuUsPerRequest;
        let routes = [Axis::Hosts, Axis::Prefixes, Axis::Expressions];
        let by = |axes: &[Axis], metric| -> Vec<(String, Axis, Metric)> {
            axes.iter().map(|axis| (axis.noun().to_owned(), *axis, metric)).collect()
        };
        let times =
            [(Metric::CheckMs, "check"), (Metric::StartMs, "start"), (Metric::ReloadMs, "reload")];
        let times = times.map(|(metric, name)| (name.to_owned(), Axis::Documents, metric));
        let many = [Axis::Hosts, Axis::Expressions, Axis::Endpoints, Axis::Documents];
        let connections = by(&[Axis::Connections], Metric::KibPerConnection);
        let all = [
            ("CPU for a request by routes, µs", "routes", by(&routes, cpu)),
            ("CPU for a request by filters, µs", "filters", by(&[Axis::Filters], cpu)),
            ("CPU for a request by endpoints, µs", "endpoints", by(&[Axis::Endpoints], cpu)),
            ("Memory for an idle connection, KiB", "connections", connections),
            ("Check, start, change one of many documents, ms", "documents", times.to_vec()),
            ("Resident memory, MiB", "how many", by(&many, Metric::ResidentMib)),
        ];
        let panels = all.into_iter().map(|(title, below, lines)| self.panel(title, below, lines));
        panels.filter(|panel| !panel.lines.is_empty()).collect()
    }

    fn panel(&self, title: &str, below: &str, lines: Vec<(String, Axis, Metric)>) -> Panel {
        let x = lines.first().map_or(Kind::Log, |(_, axis, _)| axis.kind());
        // A single line from 0 shows how much is added; several that lie far apart need factors.
        let y = if lines.len() == 1 { Kind::Linear } else { Kind::Log };
        let lines = lines
            .into_iter()
            .map(|(name, axis, metric)| Line { name, points: self.points(axis, metric) });
        let lines = lines.filter(|line| !line.points.is_empty()).collect();
        Panel { title: title.to_owned(), below: below.to_owned(), x, y, lines }
    }
}

fn short_count(count: u32) -> String {
    if count < 10_000 { count.to_string() } else { short(f64::from(count)) }
}
