//! Services that write down what they are asked, with real clocks.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use portcullis_vm::{
    Attribute, CasMismatch, LogLevel, Metric, MetricKind, Node, QueueError, QueueId, Services,
    Stream, Violation,
};

/// Level, whether an exchange was named, message.
type Line = (LogLevel, bool, String);

/// Value and version.
type Shared = (Vec<u8>, u32);
/// Name and elements.
type Queue = (Vec<u8>, VecDeque<Vec<u8>>);

/// What happened.
#[derive(Default)]
pub struct Record {
    throttled: bool,
    log: Mutex<Vec<Line>>,
    violations: Mutex<Vec<Violation>>,
    metrics: Mutex<Vec<(MetricKind, String, i64)>>,
    shared: Mutex<HashMap<Vec<u8>, Shared>>,
    queues: Mutex<BTreeMap<u32, Queue>>,
}

impl Record {
    /// Of a thread that seems to get no CPU time.
    pub fn throttled() -> Record {
        Record { throttled: true, ..Record::default() }
    }

    pub fn take_log(&self) -> Vec<Line> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    pub fn violations(&self) -> Vec<&'static str> {
        self.take_violations().into_iter().map(|violation| violation.call).collect()
    }

    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.violations.lock().unwrap())
    }

    pub fn metrics(&self) -> Vec<(MetricKind, String, i64)> {
        self.metrics.lock().unwrap().clone()
    }
}

pub struct Recorder(pub Arc<Record>);

impl Services for Recorder {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789)
    }

    fn monotonic(&self) -> Duration {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    fn thread_cpu_time(&self) -> Duration {
        if self.0.throttled {
            return Duration::ZERO;
        }
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    fn random(&self, buffer: &mut [u8]) {
        buffer.fill(b'r');
    }

    fn log_level(&self) -> LogLevel {
        LogLevel::Info
    }

    fn log(&self, level: LogLevel, stream: Option<&Stream>, message: &str) {
        self.0.log.lock().unwrap().push((level, stream.is_some(), message.to_owned()));
    }

    fn phase_violation(&self, violation: Violation) {
        self.0.violations.lock().unwrap().push(violation);
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Metric {
        let mut metrics = self.0.metrics.lock().unwrap();
        let known = metrics.iter().position(|metric| metric.0 == kind && metric.1 == name);
        Metric(known.unwrap_or_else(|| {
            metrics.push((kind, name.to_owned(), 0));
            metrics.len() - 1
        }) as u32)
    }

    fn increment_metric(&self, metric: Metric, delta: i64) {
        let mut metrics = self.0.metrics.lock().unwrap();
        let value = &mut metrics[metric.0 as usize].2;
        *value = value.wrapping_add(delta);
    }

    fn record_metric(&self, metric: Metric, value: u64) {
        self.0.metrics.lock().unwrap()[metric.0 as usize].2 = value as i64;
    }

    fn metric(&self, metric: Metric) -> u64 {
        self.0.metrics.lock().unwrap()[metric.0 as usize].2 as u64
    }

    fn shared_data(&self, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.0.shared.lock().unwrap().get(key).cloned()
    }

    fn set_shared_data(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), CasMismatch> {
        let mut shared = self.0.shared.lock().unwrap();
        let version = shared.get(key).map_or(0, |known| known.1);
        if cas != 0 && version != 0 && cas != version {
            return Err(CasMismatch);
        }
        shared.insert(key.to_vec(), (value.to_vec(), version + 1));
        Ok(())
    }

    fn register_queue(&self, name: &[u8]) -> Option<QueueId> {
        if name == b"one too many" {
            return None;
        }
        let mut queues = self.0.queues.lock().unwrap();
        let id = queues.len() as u32 + 1;
        queues.insert(id, (name.to_vec(), VecDeque::new()));
        Some(QueueId(id))
    }

    fn resolve_queue(&self, vm_id: &[u8], name: &[u8]) -> Option<QueueId> {
        let queues = self.0.queues.lock().unwrap();
        let found = queues.iter().find(|(_, queue)| queue.0 == name);
        found.filter(|_| vm_id.is_empty()).map(|(id, _)| QueueId(*id))
    }

    fn enqueue(&self, queue: QueueId, element: &[u8]) -> bool {
        let mut queues = self.0.queues.lock().unwrap();
        queues.get_mut(&queue.0).map(|queue| queue.1.push_back(element.to_vec())).is_some()
    }

    fn dequeue(&self, queue: QueueId) -> Result<Vec<u8>, QueueError> {
        let mut queues = self.0.queues.lock().unwrap();
        let queue = queues.get_mut(&queue.0).ok_or(QueueError::NotFound)?;
        queue.1.pop_front().ok_or(QueueError::Empty)
    }

    fn knows_upstream(&self, name: &str) -> bool {
        name == "backend"
    }

    fn attribute(&self, _stream: Option<&Stream>, path: &[&str]) -> Option<Attribute> {
        let labels = [("app".to_owned(), "reviews".to_owned())].into();
        let node = Node { name: "sidecar".to_owned(), namespace: "shop".to_owned(), labels };
        match path {
            ["node", path @ ..] | ["xds", "node", path @ ..] => node.attribute(path),
            _ => None,
        }
    }
}
