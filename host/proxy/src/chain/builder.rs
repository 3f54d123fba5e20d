//! The thread on which instances are built, started and configured, so that no worker ever waits for a guest's start-up.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use portcullis_vm::{Plugin, Services, Trap};

use crate::snapshot::Filter;

/// Where to send work for the builder thread. Cheap to clone; the thread ends with the last clone.
#[derive(Clone, Debug)]
pub struct Builder {
    jobs: Sender<Job>,
}

struct Job {
    filter: Arc<Filter>,
    services: Box<dyn Services>,
    done: Box<dyn FnOnce(Result<Plugin, Trap>) + Send>,
}

impl Builder {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start() -> io::Result<Builder> {
        let (jobs, received) = channel();
        thread::Builder::new().name("builder".to_owned()).spawn(move || build(&received))?;
        Ok(Builder { jobs })
    }

    /// Builds an instance and hands it to `done`, on the builder thread. When the process is ending, `done` is dropped.
    pub fn build(
        &self,
        filter: Arc<Filter>,
        services: Box<dyn Services>,
        done: impl FnOnce(Result<Plugin, Trap>) + Send + 'static,
    ) {
        let job = Job { filter, services, done: Box::new(done) };
        if self.jobs.send(job).is_err() {
            tracing::debug!("the builder thread has ended; an instance was not built");
        }
    }
}

fn build(jobs: &Receiver<Job>) {
    while let Ok(Job { filter, services, done }) = jobs.recv() {
        done(Plugin::start(&filter.module, filter.plugin.clone(), services));
    }
}
