//! Metrics that guests define: numbered, bounded for each filter, shared by all workers, read as Prometheus text.
//!
//! A guest's metric `a.b` of the filter `ns/name` becomes `wasmcustom_a_b{filter="ns/name"}`, after Envoy's prefix
//! `wasmcustom.`. A filter that defines too many gets a metric that does nothing, and is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;
use portcullis_vm::{Metric, MetricKind};

use super::families::GUEST_METRICS_REFUSED;
use super::metrics::{Registry, write_header, write_histogram, write_label, write_sample};

/// Powers of two from 1 to 2^30, and everything above.
const BUCKETS: usize = 32;

/// Absorbs whatever a guest does with it.
const NOTHING: Metric = Metric(0);

/// The metrics of all guests. Share it in an `Arc`.
#[derive(Debug)]
pub struct Guests {
    registry: Arc<Registry>,
    metrics: DashMap<u32, Arc<GuestMetric>>,
    ids: DashMap<Identity, Metric>,
    kinds: DashMap<String, MetricKind>,
    defined: DashMap<Arc<str>, usize>,
    last: AtomicU32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    filter: Arc<str>,
    kind: MetricKind,
    name: String,
}

#[derive(Debug)]
struct GuestMetric {
    identity: Identity,
    family: String,
    value: AtomicU64,
    buckets: Option<Box<[AtomicU64; BUCKETS]>>,
}

impl Guests {
    /// Metrics that one filter can have.
    pub const MAX_METRICS: usize = 1000;
    /// Bytes of a metric's name.
    pub const MAX_NAME: usize = 256;

    /// None yet; refusals are counted in `registry`.
    pub fn new(registry: Arc<Registry>) -> Guests {
        Guests {
            registry,
            metrics: DashMap::new(),
            ids: DashMap::new(),
            kinds: DashMap::new(),
            defined: DashMap::new(),
            last: AtomicU32::new(0),
        }
    }

    /// The same filter, kind and name (after its unfit characters became `_`) give the same metric.
    pub fn define(&self, filter: &Arc<str>, kind: MetricKind, name: &str) -> Metric {
        let identity = Identity { filter: Arc::clone(filter), kind, name: sanitised(name) };
        if let Some(known) = self.ids.get(&identity) {
            return *known;
        }
        if name.len() > Guests::MAX_NAME || !self.has_room(filter) {
            self.registry.series(&GUEST_METRICS_REFUSED, [filter]).increment();
            return NOTHING;
        }
        let create = || self.create(identity.clone());
        *self.ids.entry(identity.clone()).or_insert_with(create)
    }

    /// Adds to a counter (what is negative is ignored) or gauge (which stops at 0).
    pub fn increment(&self, metric: Metric, delta: i64) {
        let Some(metric) = self.metrics.get(&metric.0) else { return };
        let amount = delta.unsigned_abs();
        match (metric.identity.kind, delta >= 0) {
            (MetricKind::Histogram, _) | (MetricKind::Counter, false) => {}
            (MetricKind::Counter | MetricKind::Gauge, true) => {
                metric.value.fetch_add(amount, Ordering::Relaxed);
            }
            (MetricKind::Gauge, false) => {
                let less = |value: u64| Some(value.saturating_sub(amount));
                let _ = metric.value.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
        }
    }

    /// Sets a gauge, adds to a counter, records into a histogram.
    pub fn record(&self, metric: Metric, value: u64) {
        let Some(metric) = self.metrics.get(&metric.0) else { return };
        if metric.identity.kind == MetricKind::Gauge {
            return metric.value.store(value, Ordering::Relaxed);
        }
        metric.value.fetch_add(value, Ordering::Relaxed);
        let bucket = match value {
            0 | 1 => 0,
            above => (u64::BITS - (above - 1).leading_zeros()) as usize,
        };
        let counts = metric.buckets.as_ref();
        if let Some(count) = counts.and_then(|counts| counts.get(bucket.min(BUCKETS - 1))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Current value of a counter or gauge; 0 for a histogram or an unknown metric.
    pub fn value(&self, metric: Metric) -> u64 {
        let counted = self.metrics.get(&metric.0).filter(|metric| metric.buckets.is_none());
        counted.map_or(0, |metric| metric.value.load(Ordering::Relaxed))
    }

    /// Drops the metrics of a filter that is gone for good.
    pub fn forget(&self, filter: &str) {
        self.ids.retain(|identity, _| &*identity.filter != filter);
        self.metrics.retain(|_, metric| &*metric.identity.filter != filter);
        self.defined.retain(|name, _| &**name != filter);
    }

    /// Everything in the Prometheus text format, sorted by family and filter.
    pub fn render(&self) -> String {
        let mut metrics: Vec<_> =
            self.metrics.iter().map(|entry| Arc::clone(entry.value())).collect();
        metrics.sort_unstable_by(|a, b| {
            (&a.family, &a.identity.filter).cmp(&(&b.family, &b.identity.filter))
        });
        let mut text = String::new();
        let mut family = "";
        for metric in &metrics {
            if metric.family != family {
                let help = "Defined by a filter.";
                write_header(&mut text, &metric.family, help, kind_name(metric.identity.kind));
                family = &metric.family;
            }
            metric.write(&mut text);
        }
        text
    }

    fn has_room(&self, filter: &Arc<str>) -> bool {
        let mut defined = self.defined.entry(Arc::clone(filter)).or_default();
        *defined += 1;
        *defined <= Guests::MAX_METRICS
    }

    fn create(&self, identity: Identity) -> Metric {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let buckets = (identity.kind == MetricKind::Histogram).then(Box::default);
        let family = self.family(&identity);
        let metric = GuestMetric { identity, family, value: AtomicU64::new(0), buckets };
        self.metrics.insert(id, Arc::new(metric));
        Metric(id)
    }

    /// A family has one kind: whoever defines a name first owns it, other kinds get their kind appended.
    fn family(&self, identity: &Identity) -> String {
        let owner = *self.kinds.entry(identity.name.clone()).or_insert(identity.kind);
        if owner == identity.kind {
            return format!("wasmcustom_{}", identity.name);
        }
        format!("wasmcustom_{}_{}", identity.name, kind_name(identity.kind))
    }
}

impl GuestMetric {
    fn write(&self, text: &mut String) {
        let mut labels = String::new();
        write_label(&mut labels, "filter", &self.identity.filter);
        let value = self.value.load(Ordering::Relaxed);
        let Some(buckets) = &self.buckets else {
            return write_sample(text, &self.family, &labels, value);
        };
        let counts = buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let counts: Vec<u64> = counts.collect();
        let bounds = (0..BUCKETS - 1).map(|power| (1_u64 << power).to_string());
        let total = counts.iter().sum();
        write_histogram(text, &self.family, &labels, bounds.zip(counts), total, value);
    }
}

fn kind_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    }
}

fn sanitised(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
