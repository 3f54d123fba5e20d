//! Numbers of several rounds put together: the median, and how far they lay apart.

use std::fmt;

use serde::Serialize;

/// What was measured, in the order of a table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Microseconds of CPU time of the proxy for a request.
    CpuUsPerRequest,
    /// Milliseconds of CPU time of the proxy for a GiB.
    CpuMsPerGib,
    /// KiB of resident memory that an idle connection adds.
    KibPerConnection,
    /// Milliseconds from a start to the first answer.
    StartMs,
    /// Milliseconds that `check` takes.
    CheckMs,
    /// Milliseconds from a changed document to its first answer on every connection.
    ReloadMs,
    /// Requests answered in a second.
    RequestsPerSecond,
    /// MiB passed on in a second.
    MibPerSecond,
    /// How much of its core the proxy used, percent. Far below 100 under saturation, something else was the bottleneck.
    CorePercent,
    /// How much of the proxy's core others used, percent: what makes figures doubtful.
    OthersPercent,
    /// Median latency, microseconds.
    P50Us,
    /// 99th percentile of the latency, microseconds.
    P99Us,
    /// Resident memory of all its processes, MiB.
    ResidentMib,
    /// How much of that are pages of files: the program itself, compiled modules.
    FileMib,
}

impl Metric {
    /// The head of its column.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Metric::CpuUsPerRequest => "CPU µs/request",
            Metric::CpuMsPerGib => "CPU ms/GiB",
            Metric::KibPerConnection => "KiB/connection",
            Metric::StartMs => "start ms",
            Metric::CheckMs => "check ms",
            Metric::ReloadMs => "reload ms",
            Metric::RequestsPerSecond => "requests/s",
            Metric::MibPerSecond => "MiB/s",
            Metric::CorePercent => "core %",
            Metric::OthersPercent => "others %",
            Metric::P50Us => "p50 µs",
            Metric::P99Us => "p99 µs",
            Metric::ResidentMib => "resident MiB",
            Metric::FileMib => "of files",
        }
    }

    /// Whether it has a column; what says something of the whole run has none.
    #[must_use]
    pub fn is_shown(self) -> bool {
        self != Metric::OthersPercent
    }

    /// Whether ratios to other proxies are about it.
    #[must_use]
    pub fn is_cost(self) -> bool {
        matches!(self, Metric::CpuUsPerRequest | Metric::CpuMsPerGib | Metric::KibPerConnection)
    }
}

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The middle one; of an even number, the mean of the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Figure {
    /// Puts numbers together; `None` without any.
    #[must_use]
    pub fn of(numbers: &[f64]) -> Option<Figure> {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Figure { median, min, max })
    }

    /// What two things measured in the same rounds come to together, round by round: how many times the other the one is, say, or how much
    /// more. `None` unless both had all the rounds.
    #[must_use]
    pub fn of_rounds(
        one: &[f64],
        other: &[f64],
        together: impl Fn(f64, f64) -> f64,
    ) -> Option<Figure> {
        let pairs = one.iter().zip(other);
        let numbers: Vec<f64> = pairs.map(|(one, other)| together(*one, *other)).collect();
        Figure::of(&numbers).filter(|_| one.len() == other.len())
    }
}

/// The number below which that many percent of all lie; `None` without any.
#[must_use]
pub fn percentile(numbers: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, min, max] = [self.median, self.min, self.max].map(short);
        if min == max { write!(f, "{median}") } else { write!(f, "{median} ({min}–{max})") }
    }
}

/// With three digits, or all of those before the point; thousands apart.
#[must_use]
pub fn short(number: f64) -> String {
    let size = number.abs();
    let decimals = match size {
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{number:.decimals$}");
    if size < 1e4 {
        return text;
    }
    let digits = text.len();
    let spaced = text.char_indices().map(|(at, digit)| {
        let gap = if at > 0 && (digits - at) % 3 == 0 { " " } else { "" };
        format!("{gap}{digit}")
    });
    spaced.collect()
}
