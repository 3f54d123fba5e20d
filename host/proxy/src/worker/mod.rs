//! The workers and the handle that steers them: publishing a snapshot in two phases, status, metrics, drain.

mod listen;
mod publish;
mod report;
mod thread;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread as threads;
use std::time::{Duration, Instant};

use portcullis_vm::{Engine, Plugin, Streams, Trap};

use crate::chain::Builder;
use crate::error::Refusal;
use crate::serve::Stage;
use crate::services::{Process, World};
use crate::snapshot::{Filter, Snapshot};

use publish::Published;
use thread::{Command, Worker};

/// A worker that has not answered for so long is taken to be stuck.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long filters may put off their end when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What is fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that serve traffic, at least 1.
    pub workers: usize,
    /// The one that compiled the snapshot's modules.
    pub engine: Engine,
    /// Every worker calls it about once a second, for what the program's allocator keeps of each thread.
    pub tidy: fn(),
}

impl Options {
    /// Nothing is to be tidied.
    pub fn new(workers: usize, engine: Engine) -> Options {
        Options { workers, engine, tidy: || {} }
    }
}

/// The running data plane. Cheap to clone; its methods block and are not for async contexts.
#[derive(Clone, Debug)]
pub struct Proxy {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    process: Arc<Process>,
    builder: Builder,
    workers: Vec<Worker>,
    /// Client connections of the process.
    connections: Arc<AtomicUsize>,
    published: Mutex<Published>,
    /// Held by the one who publishes.
    publishing: Mutex<()>,
    ticking: Arc<AtomicBool>,
    engine: Engine,
}

impl Proxy {
    /// Starts the workers and brings the first snapshot to life.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); nothing runs then.
    pub fn start(options: Options, snapshot: Snapshot) -> Result<Proxy, Refusal> {
        let process = Arc::new(Process::default());
        let builder = Builder::start().map_err(thread_refused)?;
        let connections = Arc::new(AtomicUsize::new(0));
        let ticking = Arc::new(AtomicBool::new(true));
        start_ticking(options.engine.clone(), ticking.clone()).map_err(thread_refused)?;
        let workers = (0..options.workers.max(1))
            .map(|index| {
                let registry = process.registry.clone();
                Worker::start(index, builder.clone(), registry, connections.clone(), options.tidy)
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(thread_refused)?;
        let published = Mutex::new(Published::default());
        let publishing = Mutex::default();
        let engine = options.engine;
        let inner = Inner {
            process,
            builder,
            workers,
            connections,
            published,
            publishing,
            ticking,
            engine,
        };
        let proxy = Proxy { inner: Arc::new(inner) };
        proxy.publish(snapshot)?;
        Ok(proxy)
    }

    /// Brings a snapshot to life on every worker, then switches all of them. Exchanges that have begun go on with what
    /// they began with. Publishing is serialised.
    ///
    /// # Errors
    /// What could not be brought to life; every worker then goes on as before.
    pub fn publish(&self, snapshot: Snapshot) -> Result<(), Refusal> {
        self.inner.publish(snapshot)
    }

    /// Starts and configures a filter off to the side: shared state and metrics are thrown away, callouts are accepted,
    /// never sent, and completed once as failed.
    ///
    /// # Errors
    /// What the filter died of, or that it refused its configuration.
    pub fn rehearse(&self, filter: &Arc<Filter>) -> Result<(), Trap> {
        rehearse(filter)
    }

    /// Name and bound address of each listener.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.inner.published().addresses()
    }

    /// Writes access logs to reopened files, after a rotation.
    pub fn reopen_logs(&self) {
        if let Some(log) = self.inner.published().access_log() {
            log.reopen();
        }
    }

    /// Says on every connection for `delay` that it ends, accepting new ones still; then accepts no more and waits until
    /// nothing is in flight, at most for `timeout`. Filters that no exchange needs any more are then ended, which they may
    /// put off for five seconds. Returns whether nothing was in flight any more.
    pub fn drain(&self, delay: Duration, timeout: Duration) -> bool {
        self.inner.workers.iter().for_each(|worker| worker.send(Command::Stage(Stage::Leaving)));
        threads::sleep(delay);
        self.inner.workers.iter().for_each(|worker| worker.send(Command::Stage(Stage::Closing)));
        let drained = self.all_do(Command::Drained, timeout);
        if drained && !self.all_do(Command::End, LAST_WORDS) {
            tracing::warn!("filters put off their end for too long and are dropped");
        }
        if let Some(log) = self.inner.published().access_log() {
            log.flush(Duration::from_secs(1));
        }
        drained
    }

    /// Whether every worker has done in time what it is told.
    fn all_do(&self, command: fn(Box<dyn FnOnce() + Send>) -> Command, patience: Duration) -> bool {
        let (sender, done) = channel();
        for worker in &self.inner.workers {
            let sender = sender.clone();
            worker.send(command(Box::new(move || {
                let _nobody_waits = sender.send(());
            })));
        }
        all_answer(&done, self.inner.workers.len(), patience).is_ok()
    }
}

impl Inner {
    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ticking.store(false, Ordering::Relaxed);
        self.engine.rouse();
    }
}

/// Starts, configures and ends a filter that nobody uses.
fn rehearse(filter: &Arc<Filter>) -> Result<(), Trap> {
    let world = World::rehearsal(filter);
    let mut plugin = Plugin::start(&filter.module, filter.plugin.clone(), world.services())?;
    let mut streams = Streams::default();
    // What it asks for is never carried out.
    while plugin.next_effect().is_some() {}
    plugin.fail_calls(&mut streams)?;
    plugin.done(&mut streams)?;
    plugin.delete(&mut streams);
    Ok(())
}

/// Waits for `count` answers; how many are missing after `patience`.
fn all_answer<T>(answers: &Receiver<T>, count: usize, patience: Duration) -> Result<Vec<T>, usize> {
    let deadline = Instant::now() + patience;
    let mut received = Vec::with_capacity(count);
    while received.len() < count {
        match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(answer) => received.push(answer),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(count - received.len());
            }
        }
    }
    Ok(received)
}

/// Time limits of guests are counted in these ticks.
fn start_ticking(engine: Engine, ticking: Arc<AtomicBool>) -> std::io::Result<()> {
    threads::Builder::new().name("ticker".to_owned()).spawn(move || {
        while ticking.load(Ordering::Relaxed) {
            threads::sleep(Engine::TICK);
            engine.tick();
        }
    })?;
    Ok(())
}

fn thread_refused(error: std::io::Error) -> Refusal {
    Refusal::Snapshot(format!("the system refuses a thread: {error}"))
}
