//! What guests get from the process around them: clocks, log, metrics, shared data, queues, and the upstreams they may
//! call. Nothing here blocks.

mod shared;
mod tenancy;
mod upstreams;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use portcullis_vm::{
    Attribute, CasMismatch, LogLevel, Metric, MetricKind, QueueError, QueueId, Services, Stream,
    Violation,
};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

pub use shared::{Inbox, Shared};
pub use tenancy::{Tenancies, Tenancy};
pub use upstreams::{Upstreams, upstream_names};

use upstreams::backend_name;

use crate::observe::families::{
    FILTER_INSTANCES, FILTER_MEMORY, FILTER_UNAVAILABLE, PHASE_VIOLATIONS,
};
use crate::observe::{FilterHealth, FilterView, Gauge, Guests, Registry};
use crate::snapshot::{AllowCalls, Filter};

/// What all plugins of the process share.
#[derive(Debug)]
pub struct Process {
    /// Our own metrics.
    pub registry: Arc<Registry>,
    /// Keys and queues.
    pub shared: Shared,
    /// The guests' own metrics.
    pub guests: Guests,
    started: Instant,
}

impl Default for Process {
    fn default() -> Process {
        let registry = Arc::new(Registry::default());
        let guests = Guests::new(registry.clone());
        Process { registry, shared: Shared::default(), guests, started: Instant::now() }
    }
}

/// One filter as it runs with one module and one configuration, on all workers.
#[derive(Debug)]
pub struct Running {
    /// What it runs.
    pub filter: Arc<Filter>,
    /// Traps and suspension.
    pub health: FilterHealth,
    /// The generation that brought it.
    pub generation: u64,
    /// Live instances.
    pub instances: Gauge,
    /// Their linear memory, in bytes.
    pub memory: Gauge,
    /// With `isolation: EXCLUSIVE`.
    pub tenancies: Option<Tenancies>,
    /// Workers that wait for a new instance.
    replacing: AtomicUsize,
    since: SystemTime,
    registry: Arc<Registry>,
}

impl Running {
    /// A filter that a generation brings.
    pub fn new(filter: Arc<Filter>, generation: u64, registry: &Arc<Registry>) -> Running {
        let label = generation.to_string();
        Running {
            health: FilterHealth::new(filter.name.clone(), registry.clone(), Instant::now()),
            instances: registry.series(&FILTER_INSTANCES, [&filter.name, &label]),
            memory: registry.series(&FILTER_MEMORY, [&filter.name, &label]),
            tenancies: Tenancies::of(&filter, &label, registry),
            replacing: AtomicUsize::new(0),
            since: SystemTime::now(),
            registry: registry.clone(),
            generation,
            filter,
        }
    }

    /// An exchange met the filter while it could not run. `outcome`: `skipped` or `failed`.
    pub fn note_unavailable(&self, outcome: &str) {
        self.registry.series(&FILTER_UNAVAILABLE, [&self.filter.name, outcome]).increment();
    }

    /// For the status.
    pub fn view(&self) -> FilterView {
        FilterView {
            wall: SystemTime::now(),
            since: self.since,
            instances: usize::try_from(self.instances.get()).unwrap_or(0),
            memory_bytes: usize::try_from(self.memory.get()).unwrap_or(0),
            replacing: self.replacing.load(Ordering::Relaxed),
            pool: self.tenancies.as_ref().map(Tenancies::status),
            shared_instance: self.tenancies.as_ref().map(Tenancies::shared).unwrap_or_default(),
        }
    }
}

/// A worker waits for a new instance of a filter, for as long as this exists.
#[derive(Debug)]
pub struct Replacing(Arc<Running>);

impl Replacing {
    /// An instance has died.
    pub fn begin(running: &Arc<Running>) -> Replacing {
        running.replacing.fetch_add(1, Ordering::Relaxed);
        Replacing(running.clone())
    }
}

impl Drop for Replacing {
    fn drop(&mut self) {
        self.0.replacing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The world of one filter on one worker, from which each of its instances gets its [`Services`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    /// The filter, on all workers.
    pub running: Arc<Running>,
    /// Where elements of queues are announced.
    pub inbox: Arc<Inbox>,
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
        running: Arc<Running>,
        process: Arc<Process>,
        upstreams: Arc<BTreeSet<String>>,
    ) -> World {
        let upstreams = Arc::new(RwLock::new(Existing::Named(upstreams)));
        let inbox = Inbox::new(running.filter.name.clone(), running.generation);
        World { running, inbox: Arc::new(inbox), process, upstreams }
    }

    /// For a rehearsal: shared state and metrics are thrown away, callouts are accepted (and never sent).
    pub fn rehearsal(filter: &Arc<Filter>) -> World {
        let process = Process::default();
        World {
            running: Arc::new(Running::new(filter.clone(), 0, &process.registry)),
            inbox: Arc::default(),
            process: Arc::new(process),
            upstreams: Arc::new(RwLock::new(Existing::All)),
        }
    }

    /// The plugin goes into service: the queues that it has registered are announced to it.
    pub fn open_queues(&self) {
        self.process.shared.open(&self.inbox);
    }

    /// Names that exist from now on.
    pub fn set_upstream_names(&self, names: Arc<BTreeSet<String>>) {
        *self.upstreams.write().unwrap_or_else(PoisonError::into_inner) = Existing::Named(names);
    }

    fn is_rehearsal(&self) -> bool {
        matches!(*self.upstreams.read().unwrap_or_else(PoisonError::into_inner), Existing::All)
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
        self.world.running.filter.log_level
    }

    fn log(&self, level: LogLevel, stream: Option<&Stream>, message: &str) {
        let filter = &*self.world.running.filter.name;
        let request = stream.and_then(Stream::http).map(|stream| &stream.request);
        let id = request.and_then(|request| request.headers.get("x-request-id"));
        let request_id = id
            .filter(|id| id.is_ascii())
            .and_then(|id| str::from_utf8(id).ok())
            .unwrap_or_default();
        let rehearsal = self.world.is_rehearsal().then_some(true);
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(target: "filter", filter, request_id, rehearsal, "{message}")
            };
        }
        match level {
            LogLevel::Trace => event!(trace),
            LogLevel::Debug => event!(debug),
            LogLevel::Info => event!(info),
            LogLevel::Warn => event!(warn),
            LogLevel::Error | LogLevel::Critical => event!(error),
        }
    }

    fn phase_violation(&self, violation: Violation) {
        let labels = [&*self.world.running.filter.name, violation.call, violation.phase];
        self.world.running.registry.series(&PHASE_VIOLATIONS, labels).increment();
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Metric {
        self.world.process.guests.define(&self.world.running.filter.name, kind, name)
    }

    fn increment_metric(&self, metric: Metric, delta: i64) {
        self.world.process.guests.increment(metric, delta);
    }

    fn record_metric(&self, metric: Metric, value: u64) {
        self.world.process.guests.record(metric, value);
    }

    fn metric(&self, metric: Metric) -> u64 {
        self.world.process.guests.value(metric)
    }

    fn shared_data(&self, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.world.process.shared.get(self.vm_id(), key)
    }

    fn set_shared_data(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), CasMismatch> {
        self.world.process.shared.set(self.vm_id(), key, value, cas)
    }

    fn register_queue(&self, name: &[u8]) -> Option<QueueId> {
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
        let allowed = match &self.world.running.filter.allow_calls {
            AllowCalls::Everything => true,
            AllowCalls::Only(names) => names.contains(name),
        };
        allowed
            && match &*self.world.upstreams.read().unwrap_or_else(PoisonError::into_inner) {
                Existing::All => true,
                Existing::Named(names) => names.contains(&*backend_name(name)),
            }
    }

    fn attribute(&self, _stream: Option<&Stream>, path: &[&str]) -> Option<Attribute> {
        match path {
            ["node", path @ ..] | ["xds", "node", path @ ..] => {
                self.world.running.filter.node.attribute(path)
            }
            _ => None,
        }
    }
}

impl PluginServices {
    fn vm_id(&self) -> &str {
        &self.world.running.filter.plugin.vm_id
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
