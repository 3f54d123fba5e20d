//! Metrics that guests define: numbered, bounded for each filter, shared by all workers, read as Prometheus text.
//!
//! A guest's metric `a.b` of the filter `ns/name` becomes `wasmcustom_a_b{filter="ns/name"}`, after Envoy's prefix
//! `wasmcustom.`, with the labels that its name bears. What a filter defines beyond its limit is counted, and folded: a
//! counter or histogram of a family that the filter has becomes the series `overflow="true"` of that family, so that sums
//! stay right; anything else gets a metric that does nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;
use portcullis_vm::{Metric, MetricKind};

use super::families::GUEST_METRICS_REFUSED;
use super::metrics::{Registry, write_header, write_histogram, write_label, write_sample};
use super::naming::Named;

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
    defined: DashMap<Arc<str>, Defined>,
    last: AtomicU32,
}

/// What a filter has.
#[derive(Debug, Default)]
struct Defined {
    series: usize,
    families: HashSet<(MetricKind, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    filter: Arc<str>,
    kind: MetricKind,
    named: Named,
}

#[derive(Debug)]
struct GuestMetric {
    identity: Identity,
    family: String,
    labels: String,
    value: AtomicU64,
    buckets: Option<Box<[AtomicU64; BUCKETS]>>,
}

impl Guests {
    /// Series that one filter can have, beside one `overflow` for each family.
    pub const MAX_METRICS: usize = 1000;
    /// Bytes of a metric's name, labels included.
    pub const MAX_NAME: usize = 2048;

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

    /// The same filter, kind, name (after its unfit characters became `_`) and labels give the same metric.
    pub fn define(&self, filter: &Arc<str>, kind: MetricKind, name: &str) -> Metric {
        let refused = || self.registry.series(&GUEST_METRICS_REFUSED, [filter]).increment();
        if name.len() > Guests::MAX_NAME {
            refused();
            return NOTHING;
        }
        let identity = Identity { filter: Arc::clone(filter), kind, named: Named::of(name) };
        if let Some(known) = self.ids.get(&identity) {
            return *known;
        }
        if self.has_room(&identity) {
            return self.find(identity);
        }
        refused();
        self.folded(identity)
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

    /// Everything in the Prometheus text format, sorted by family and labels.
    pub fn render(&self) -> String {
        let mut metrics: Vec<_> =
            self.metrics.iter().map(|entry| Arc::clone(entry.value())).collect();
        metrics.sort_unstable_by(|a, b| (&a.family, &a.labels).cmp(&(&b.family, &b.labels)));
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

    fn find(&self, identity: Identity) -> Metric {
        let create = || self.create(identity.clone());
        *self.ids.entry(identity.clone()).or_insert_with(create)
    }

    /// Counts a series, and notes that the filter has this family.
    fn has_room(&self, identity: &Identity) -> bool {
        let mut defined = self.defined.entry(Arc::clone(&identity.filter)).or_default();
        if defined.series >= Guests::MAX_METRICS {
            return false;
        }
        defined.series += 1;
        defined.families.insert((identity.kind, identity.named.name.clone()));
        true
    }

    /// The series that takes what has no place of its own.
    fn folded(&self, mut identity: Identity) -> Metric {
        let family = (identity.kind, identity.named.name.clone());
        let defined = self.defined.get(&identity.filter);
        let known = defined.is_some_and(|defined| defined.families.contains(&family));
        if !known || identity.kind == MetricKind::Gauge {
            return NOTHING;
        }
        identity.named.labels = vec![("overflow".to_owned(), "true".to_owned())];
        self.find(identity)
    }

    fn create(&self, identity: Identity) -> Metric {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let buckets = (identity.kind == MetricKind::Histogram).then(Box::default);
        let family = self.family(&identity);
        let mut labels = String::new();
        write_label(&mut labels, "filter", &identity.filter);
        identity
            .named
            .labels
            .iter()
            .for_each(|(name, value)| write_label(&mut labels, name, value));
        let metric = GuestMetric { identity, family, labels, value: AtomicU64::new(0), buckets };
        self.metrics.insert(id, Arc::new(metric));
        Metric(id)
    }

    /// A family has one kind: whoever defines a name first owns it, other kinds get their kind appended.
    fn family(&self, identity: &Identity) -> String {
        let name = &identity.named.name;
        let owner = *self.kinds.entry(name.clone()).or_insert(identity.kind);
        if owner == identity.kind {
            return format!("wasmcustom_{name}");
        }
        format!("wasmcustom_{name}_{}", kind_name(identity.kind))
    }
}

impl GuestMetric {
    fn write(&self, text: &mut String) {
        let labels = &self.labels;
        let value = self.value.load(Ordering::Relaxed);
        let Some(buckets) = &self.buckets else {
            return write_sample(text, &self.family, labels, value);
        };
        let counts = buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let counts: Vec<u64> = counts.collect();
        let bounds = (0..BUCKETS - 1).map(|power| (1_u64 << power).to_string());
        let total = counts.iter().sum();
        write_histogram(text, &self.family, labels, bounds.zip(counts), total, value);
    }
}

fn kind_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    }
}
