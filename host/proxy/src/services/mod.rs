//! What guests get from the process around them: clocks, log, metrics, shared data, queues, and the upstreams they may
//! call. Nothing here blocks.

mod shared;
mod upstreams;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use portcullis_vm::{
    Attribute, CasMismatch, HttpStream, LogLevel, Metric, MetricKind, QueueError, QueueId, Services,
};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

pub use shared::{Inbox, Shared};
pub use upstreams::Upstreams;

use upstreams::backend_name;

use crate::observe::{FilterGauges, FilterHealth, Guests};
use crate::snapshot::{AllowCalls, Filter};

/// What all plugins of the process share.
#[derive(Debug)]
pub struct Process {
    /// Keys and queues.
    pub shared: Shared,
    /// The guests' own metrics.
    pub guests: Guests,
    started: Instant,
}

impl Process {
    /// Around the given metrics.
    pub fn new(guests: Guests) -> Process {
        Process { shared: Shared::default(), guests, started: Instant::now() }
    }
}

/// The world of one filter on one worker, from which each of its instances gets its [`Services`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    /// The filter's counters and traps, shared by the workers.
    pub health: Arc<FilterHealth>,
    /// Instances and memory of this generation.
    pub gauges: FilterGauges,
    /// Where elements of queues are announced.
    pub inbox: Arc<Inbox>,
    filter: Arc<Filter>,
    process: Arc<Process>,
    upstreams: Arc<RwLock<Existing>>,
}

/// Which upstreams exist.
#[derive(Debug)]
enum Existing {
    /// All that a guest can think of; in a rehearsal.
    All,
    /// These.
    Named(Arc<BTreeSet<String>>),
}

impl World {
    /// A filter that may call those of `upstreams` that it is allowed to.
    pub fn new(
        filter: Arc<Filter>,
        process: Arc<Process>,
        health: Arc<FilterHealth>,
        gauges: FilterGauges,
        upstreams: Arc<BTreeSet<String>>,
    ) -> World {
        let upstreams = Arc::new(RwLock::new(Existing::Named(upstreams)));
        World { health, gauges, inbox: Arc::default(), filter, process, upstreams }
    }

    /// For a rehearsal: shared state and metrics are thrown away, callouts are accepted (and never sent).
    pub fn rehearsal(filter: Arc<Filter>) -> World {
        World {
            health: Arc::new(FilterHealth::detached(&filter)),
            gauges: FilterGauges::default(),
            inbox: Arc::default(),
            filter,
            process: Arc::new(Process::new(Guests::default())),
            upstreams: Arc::new(RwLock::new(Existing::All)),
        }
    }

    /// Names that exist from now on.
    pub fn set_upstream_names(&self, names: Arc<BTreeSet<String>>) {
        *self.upstreams.write().unwrap_or_else(PoisonError::into_inner) = Existing::Named(names);
    }

    /// For one instance.
    pub fn services(&self) -> Box<dyn Services> {
        Box::new(PluginServices { world: self.clone() })
    }
}

#[derive(Debug)]
struct PluginServices {
    world: World,
}

impl Services for PluginServices {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        self.world.process.started.elapsed()
    }

    fn thread_cpu_time(&self) -> Duration {
        thread_cpu_time()
    }

    fn random(&self, buffer: &mut [u8]) {
        random(buffer);
    }

    fn log_level(&self) -> LogLevel {
        self.world.filter.log_level
    }

    fn log(&self, level: LogLevel, stream: Option<&HttpStream>, message: &str) {
        let filter = &*self.world.filter.name;
        let id = stream.and_then(|stream| stream.request.headers.get("x-request-id"));
        let request_id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
        match level {
            LogLevel::Trace => tracing::trace!(target: "filter", filter, request_id, "{message}"),
            LogLevel::Debug => tracing::debug!(target: "filter", filter, request_id, "{message}"),
            LogLevel::Info => tracing::info!(target: "filter", filter, request_id, "{message}"),
            LogLevel::Warn => tracing::warn!(target: "filter", filter, request_id, "{message}"),
            LogLevel::Error | LogLevel::Critical => {
                tracing::error!(target: "filter", filter, request_id, "{message}");
            }
        }
    }

    fn phase_violation(&self, call: &'static str) {
        self.world.health.phase_violation(call);
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Metric {
        self.world.process.guests.define(&self.world.filter.name, kind, name)
    }

    fn increment_metric(&self, metric: Metric, delta: i64) {
        self.world.process.guests.increment(metric, delta);
    }

    fn record_metric(&self, metric: Metric, value: u64) {
        self.world.process.guests.record(metric, value);
    }

    fn metric(&self, metric: Metric) -> u64 {
        self.world.process.guests.get(metric)
    }

    fn shared_data(&self, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.world.process.shared.get(self.vm_id(), key)
    }

    fn set_shared_data(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), CasMismatch> {
        self.world.process.shared.set(self.vm_id(), key, value, cas)
    }

    fn register_queue(&self, name: &[u8]) -> QueueId {
        self.world.process.shared.register(self.vm_id(), name, &self.world.inbox)
    }

    fn resolve_queue(&self, vm_id: &[u8], name: &[u8]) -> Option<QueueId> {
        let vm_id = match std::str::from_utf8(vm_id).ok()? {
            "" => self.vm_id(),
            vm_id => vm_id,
        };
        self.world.process.shared.resolve(vm_id, name)
    }

    fn enqueue(&self, queue: QueueId, element: &[u8]) -> bool {
        self.world.process.shared.enqueue(queue, element)
    }

    fn dequeue(&self, queue: QueueId) -> Result<Vec<u8>, QueueError> {
        self.world.process.shared.dequeue(queue)
    }

    fn knows_upstream(&self, name: &str) -> bool {
        let allowed = match &self.world.filter.allow_calls {
            AllowCalls::Everything => true,
            AllowCalls::Only(names) => names.contains(name),
        };
        allowed
            && match &*self.world.upstreams.read().unwrap_or_else(PoisonError::into_inner) {
                Existing::All => true,
                Existing::Named(names) => names.contains(backend_name(name)),
            }
    }

    fn attribute(&self, _stream: Option<&HttpStream>, _path: &[&str]) -> Option<Attribute> {
        None
    }
}

impl PluginServices {
    fn vm_id(&self) -> &str {
        &self.world.filter.plugin.vm_id
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Fit for keys: a guest's `random_get` may seed its cryptography.
fn random(buffer: &mut [u8]) {
    let mut filled = 0;
    while filled < buffer.len() {
        match getrandom(&mut buffer[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "the system gives no random bytes; a guest gets weak ones");
                buffer[filled..].fill_with(|| fastrand::u8(..));
                return;
            }
        }
    }
}
