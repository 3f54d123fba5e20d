//! Metrics as constants: `static HITS: Counter = Counter::new("hits");`. A metric is defined with
//! the host on first use; a host that refuses one costs the filter nothing but the figure.

#[cfg(target_arch = "wasm32")]
use std::sync::atomic::{AtomicU64, Ordering};

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

/// A figure that only grows.
#[derive(Debug)]
pub struct Counter(Metric);

/// A figure that goes up and down.
#[derive(Debug)]
pub struct Gauge(Metric);

/// A distribution of figures.
#[derive(Debug)]
pub struct Histogram(Metric);

impl Counter {
    /// A counter by its name.
    #[must_use]
    pub const fn new(name: &'static str) -> Counter {
        Counter(Metric::new(name))
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u32) {
        if count > 0
            && let Some(id) = self.0.id(MetricType::Counter)
        {
            let _ = hostcalls::increment_metric(id, count.into());
        }
    }
}

impl Gauge {
    /// A gauge by its name.
    #[must_use]
    pub const fn new(name: &'static str) -> Gauge {
        Gauge(Metric::new(name))
    }

    /// Adds, or takes away.
    pub fn add(&self, change: i64) {
        if let Some(id) = self.0.id(MetricType::Gauge) {
            let _ = hostcalls::increment_metric(id, change);
        }
    }

    /// Sets the figure.
    pub fn set(&self, value: u64) {
        if let Some(id) = self.0.id(MetricType::Gauge) {
            let _ = hostcalls::record_metric(id, value);
        }
    }
}

impl Histogram {
    /// A histogram by its name.
    #[must_use]
    pub const fn new(name: &'static str) -> Histogram {
        Histogram(Metric::new(name))
    }

    /// Records one figure.
    pub fn record(&self, value: u64) {
        if let Some(id) = self.0.id(MetricType::Histogram) {
            let _ = hostcalls::record_metric(id, value);
        }
    }
}

/// A name, and the host's number for it.
#[derive(Debug)]
struct Metric {
    name: &'static str,
    /// Number plus one; 0 before first use. Natively each test thread has a host of its own, and
    /// asks it every time.
    #[cfg(target_arch = "wasm32")]
    known: AtomicU64,
}

impl Metric {
    const fn new(name: &'static str) -> Metric {
        Metric {
            name,
            #[cfg(target_arch = "wasm32")]
            known: AtomicU64::new(0),
        }
    }

    #[cfg(target_arch = "wasm32")]
    fn id(&self, kind: MetricType) -> Option<u32> {
        if let Some(known) = self.known.load(Ordering::Relaxed).checked_sub(1) {
            return u32::try_from(known).ok();
        }
        let id = hostcalls::define_metric(kind, self.name).ok()?;
        self.known.store(u64::from(id) + 1, Ordering::Relaxed);
        Some(id)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn id(&self, kind: MetricType) -> Option<u32> {
        hostcalls::define_metric(kind, self.name).ok()
    }
}
