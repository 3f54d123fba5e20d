//! Counters, gauges and histograms, and the Prometheus text they are read as.
//!
//! A handle is looked up when something is built and kept; using it is one or a few relaxed atomic operations. The
//! registry never takes a lock that two workers contend for on the way of a request.

use std::fmt::Write;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::DashMap;

/// A metric family: one name and help text, one kind `K` of handle, `N` labels.
#[derive(Debug)]
pub struct Family<K, const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    kind: PhantomData<fn() -> K>,
}

impl<K, const N: usize> Family<K, N> {
    /// Names follow Prometheus: base units, counters end in `_total`.
    pub const fn new(
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Family<K, N> {
        Family { name, help, labels, kind: PhantomData }
    }
}

/// Only ever grows. Clones are the same counter.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down. Clones are the same gauge; with the last of them the series disappears from the metrics.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Adds `delta`, which may be negative.
    pub fn add(&self, delta: i64) {
        self.0.fetch_add(delta, Ordering::Relaxed);
    }

    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the duration buckets, in microseconds: 0.5 ms to 60 s.
const BOUNDS: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

/// A distribution of durations. Clones are the same histogram.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<Buckets>);

impl Histogram {
    /// Records one duration.
    pub fn observe(&self, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < microseconds);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }
}

/// A kind of handle that a [`Registry`] gives out. Implemented by [`Counter`], [`Gauge`] and [`Histogram`] alone.
pub trait Kind: Clone + Default + Sized + sealed::Sealed {}

impl Kind for Counter {}
impl Kind for Gauge {}
impl Kind for Histogram {}

mod sealed {
    use super::Series;

    pub trait Sealed: Sized {
        fn keep(&self) -> Series;
        fn of(series: &Series) -> Option<Self>;
    }
}

/// What the registry keeps of a handle.
#[derive(Clone, Debug)]
pub enum Series {
    /// Stays until it is forgotten.
    Counter(Counter),
    /// Stays while somebody holds the handle.
    Gauge(Weak<AtomicI64>),
    /// Stays until it is forgotten.
    Histogram(Histogram),
}

impl sealed::Sealed for Counter {
    fn keep(&self) -> Series {
        Series::Counter(self.clone())
    }

    fn of(series: &Series) -> Option<Counter> {
        if let Series::Counter(counter) = series { Some(counter.clone()) } else { None }
    }
}

impl sealed::Sealed for Gauge {
    fn keep(&self) -> Series {
        Series::Gauge(Arc::downgrade(&self.0))
    }

    fn of(series: &Series) -> Option<Gauge> {
        if let Series::Gauge(gauge) = series { gauge.upgrade().map(Gauge) } else { None }
    }
}

impl sealed::Sealed for Histogram {
    fn keep(&self) -> Series {
        Series::Histogram(self.clone())
    }

    fn of(series: &Series) -> Option<Histogram> {
        if let Series::Histogram(histogram) = series { Some(histogram.clone()) } else { None }
    }
}

/// Family and labels as they are written (`a="b",c="d"`); sorts as the text does.
type Key = (&'static str, String);

#[derive(Debug)]
struct Entry {
    help: &'static str,
    series: Series,
}

/// All metrics of the process but those that guests define. Share it in an `Arc`.
#[derive(Debug, Default)]
pub struct Registry {
    entries: DashMap<Key, Entry>,
}

impl Registry {
    /// The handle of one series, created at zero if there is none. Not for every request: keep the handle.
    pub fn series<K: Kind, const N: usize>(&self, family: &Family<K, N>, values: [&str; N]) -> K {
        let mut labels = String::new();
        for (name, value) in family.labels.iter().zip(values) {
            write_label(&mut labels, name, value);
        }
        let fresh = K::default();
        let mut entry = self
            .entries
            .entry((family.name, labels))
            .or_insert_with(|| Entry { help: family.help, series: fresh.keep() });
        if let Some(known) = K::of(&entry.series) {
            return known;
        }
        entry.series = fresh.keep();
        fresh
    }

    /// Drops every series in which `label` has this value, once what it names is gone for good.
    pub fn forget(&self, label: &str, value: &str) {
        let mut pair = String::new();
        write_label(&mut pair, label, value);
        self.entries.retain(|(_, labels), _| !has_pair(labels, &pair));
    }

    /// Drops gauges that nobody holds any more; how many series are left. Generations come and go whether anybody reads
    /// the metrics or not.
    pub fn sweep(&self) -> usize {
        let gone =
            |series: &Series| matches!(series, Series::Gauge(gauge) if gauge.strong_count() == 0);
        self.entries.retain(|_, entry| !gone(&entry.series));
        self.entries.len()
    }

    /// Everything in the Prometheus text format, version 0.0.4
    /// (<https://prometheus.io/docs/instrumenting/exposition_formats/>), sorted by family and labels.
    pub fn render(&self) -> String {
        let mut all = Vec::with_capacity(self.sweep());
        // Handles and not yet their lines, which for thousands of routes are as much as everything else that is kept.
        all.extend(self.entries.iter().map(|entry| {
            let (name, labels) = entry.key();
            (*name, labels.clone(), entry.help, entry.series.clone())
        }));
        all.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        // Where a large text grows, all of it is there twice.
        let room = all.iter().map(|(name, labels, _, series)| series.room(name, labels)).sum();
        let mut text = String::with_capacity(room);
        let mut family = "";
        for (name, labels, help, series) in &all {
            if family != *name {
                write_header(&mut text, name, help, series.kind());
                family = name;
            }
            series.write(&mut text, name, labels);
        }
        text
    }
}

impl Series {
    fn kind(&self) -> &'static str {
        match self {
            Series::Counter(_) => "counter",
            Series::Gauge(_) => "gauge",
            Series::Histogram(_) => "histogram",
        }
    }

    /// Bytes that its lines take at the most, or nearly.
    fn room(&self, name: &str, labels: &str) -> usize {
        let lines = if matches!(self, Series::Histogram(_)) { BOUNDS.len() + 3 } else { 1 };
        lines * (name.len() + labels.len() + "_bucket{,le=\"60\"} 1000000000\n".len())
    }

    fn write(&self, text: &mut String, name: &str, labels: &str) {
        match self {
            Series::Counter(counter) => write_sample(text, name, labels, counter.get()),
            Series::Gauge(gauge) => {
                if let Some(gauge) = gauge.upgrade() {
                    write_sample(text, name, labels, gauge.load(Ordering::Relaxed));
                }
            }
            Series::Histogram(histogram) => {
                let buckets = &histogram.0;
                let bounds = BOUNDS.iter().map(|bound| (*bound as f64 / 1e6).to_string());
                let counts = buckets.counts.iter().map(|count| count.load(Ordering::Relaxed));
                let sum = buckets.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
                write_histogram(
                    text,
                    name,
                    labels,
                    bounds.zip(counts.clone()),
                    counts.clone().sum(),
                    sum,
                );
            }
        }
    }
}

/// `# HELP` and `# TYPE` of a family.
pub(super) fn write_header(text: &mut String, name: &str, help: &str, kind: &str) {
    let help = help.replace('\\', r"\\").replace('\n', r"\n");
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// One sample line.
pub(super) fn write_sample(
    text: &mut String,
    name: &str,
    labels: &str,
    value: impl std::fmt::Display,
) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

/// The lines of one histogram; `buckets` are upper bounds and counts, not yet cumulative, without the last one.
pub(super) fn write_histogram(
    text: &mut String,
    name: &str,
    labels: &str,
    buckets: impl Iterator<Item = (String, u64)>,
    total: u64,
    sum: impl std::fmt::Display,
) {
    let separator = if labels.is_empty() { "" } else { "," };
    let mut below = 0;
    for (bound, count) in buckets {
        below += count;
        let _ = writeln!(text, "{name}_bucket{{{labels}{separator}le=\"{bound}\"}} {below}");
    }
    let _ = writeln!(text, "{name}_bucket{{{labels}{separator}le=\"+Inf\"}} {total}");
    write_sample(text, &format!("{name}_sum"), labels, sum);
    write_sample(text, &format!("{name}_count"), labels, total);
}

/// Appends `name="value"`, separated from what is there.
pub(super) fn write_label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    let _ = write!(labels, "{name}=\"");
    for character in value.chars() {
        match character {
            '\\' => labels.push_str(r"\\"),
            '"' => labels.push_str("\\\""),
            '\n' => labels.push_str(r"\n"),
            other => labels.push(other),
        }
    }
    labels.push('"');
}

/// Whether `pair` is one of `labels`, at the borders of a pair.
fn has_pair(labels: &str, pair: &str) -> bool {
    labels.match_indices(pair).any(|(at, _)| {
        let before = labels.get(..at).is_some_and(|text| text.is_empty() || text.ends_with(','));
        let after = labels.get(at + pair.len()..);
        before && after.is_some_and(|text| text.is_empty() || text.starts_with(','))
    })
}
