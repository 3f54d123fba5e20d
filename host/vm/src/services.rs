//! What a guest may ask of the world outside its instance: the trait that the embedder implements.

use std::time::{Duration, SystemTime};

use crate::attributes::Attribute;
use crate::state::Stream;

/// Severity of a log record (`proxy_log`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum LogLevel {
    /// 0
    Trace = 0,
    /// 1
    Debug = 1,
    /// 2
    Info = 2,
    /// 3
    Warn = 3,
    /// 4
    Error = 4,
    /// 5; what the Rust SDK's panic hook uses
    Critical = 5,
}

impl LogLevel {
    /// The level that the ABI gives this number.
    pub fn of(number: u32) -> Option<LogLevel> {
        Some(match number {
            0 => LogLevel::Trace,
            1 => LogLevel::Debug,
            2 => LogLevel::Info,
            3 => LogLevel::Warn,
            4 => LogLevel::Error,
            5 => LogLevel::Critical,
            _ => return None,
        })
    }
}

/// Kind of a metric (`proxy_define_metric`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Records a distribution.
    Histogram,
}

/// A metric as the embedder numbers it; the guest sees an id of the vm's making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Metric(pub u32);

/// A shared queue; ids count from 1 within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueueId(pub u32);

/// `proxy_set_shared_data` met another version than the caller named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CasMismatch;

/// Why an element could not be taken from a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// No such queue.
    NotFound,
    /// Nothing in it.
    Empty,
}

/// A host call at a moment when it has no meaning, which is therefore ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the host call.
    pub call: &'static str,
    /// The callback in which the guest made it, without its `proxy_on_`: `request_headers`, `tick`, `log`, …;
    /// `start_up` before any.
    pub phase: &'static str,
}

/// The world of one plugin instance. Shared data and queues are already scoped to the plugin's `vm_id`.
///
/// No method may block, and none may call back into the vm.
pub trait Services: Send {
    /// Wall clock.
    fn now(&self) -> SystemTime;
    /// Time since an arbitrary fixed point; never goes back.
    fn monotonic(&self) -> Duration;
    /// CPU time that the calling thread has used.
    fn thread_cpu_time(&self) -> Duration;
    /// Fills `buffer` with random bytes fit for keys.
    fn random(&self, buffer: &mut [u8]);

    /// The lowest level worth recording.
    fn log_level(&self) -> LogLevel;
    /// Records a message of the guest; `stream` is the exchange it concerns. Not called below [`log_level`](Self::log_level).
    fn log(&self, level: LogLevel, stream: Option<&Stream>, message: &str);
    /// A call was ignored.
    fn phase_violation(&self, violation: Violation);

    /// The same name and kind give the same metric.
    fn define_metric(&self, kind: MetricKind, name: &str) -> Metric;
    /// Adds to a counter or gauge.
    fn increment_metric(&self, metric: Metric, delta: i64);
    /// Sets a gauge, adds to a counter, records into a histogram.
    fn record_metric(&self, metric: Metric, value: u64);
    /// Current value of a counter or gauge.
    fn metric(&self, metric: Metric) -> u64;

    /// Value and version (never 0) of a shared key.
    fn shared_data(&self, key: &[u8]) -> Option<(Vec<u8>, u32)>;
    /// `cas` 0 writes unconditionally; a missing key may be written with any `cas`.
    ///
    /// # Errors
    /// The key has another version than `cas`.
    fn set_shared_data(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), CasMismatch>;

    /// Creates or finds the queue and makes this plugin the one that is told when an element arrives; `None`: there is no
    /// room for another one.
    fn register_queue(&self, name: &[u8]) -> Option<QueueId>;
    /// Finds a queue; an empty `vm_id` means the plugin's own.
    fn resolve_queue(&self, vm_id: &[u8], name: &[u8]) -> Option<QueueId>;
    /// False when there is no such queue.
    fn enqueue(&self, queue: QueueId, element: &[u8]) -> bool;
    /// Takes the oldest element.
    ///
    /// # Errors
    /// No such queue, or nothing in it.
    fn dequeue(&self, queue: QueueId) -> Result<Vec<u8>, QueueError>;

    /// Whether `proxy_http_call` may name this upstream: it is known and this filter is allowed to call it.
    fn knows_upstream(&self, name: &str) -> bool;

    /// Attributes that depend on more than the exchange itself, such as `route_name` before the route is selected. Asked
    /// after the vm found nothing in the stream's own heads and [`Attributes`](crate::Attributes).
    fn attribute(&self, stream: Option<&Stream>, path: &[&str]) -> Option<Attribute>;
}
