//! A host under test as a program: starts it on loopback with a configuration made for it, knows where it listens and what
//! its guests have logged, and ends it.
//!
//! What differs between the two programs stays in `portcullis` and `envoy`; nobody above tells them apart by anything but
//! their name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::case::{FailStrategy, FilterType, HostName, Protocol};

mod envoy;
mod portcullis;
mod process;

pub use envoy::{Envoy, Found};
pub use portcullis::Portcullis;
pub(crate) use portcullis::Serving;
pub(crate) use process::Process;
pub use process::{Line, PATIENCE};

/// What a host is started with.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Threads that serve.
    pub workers: u32,
    /// Each with its own filters; all traffic goes to the backend `origin`.
    pub listeners: Vec<Listener>,
    /// Servers by name.
    pub backends: BTreeMap<String, Server>,
}

/// A listener with the filters that its requests pass, in order.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Unique.
    pub name: String,
    /// The chain.
    pub plugins: Vec<Plugin>,
}

impl Listener {
    /// Whether it is for connections without HTTP.
    fn is_network(&self) -> bool {
        self.plugins.iter().any(|plugin| plugin.kind == FilterType::Network)
    }
}

/// A server behind the host.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A filter; the fields mean what they mean in a case.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "as in `case::Filter`")]
pub struct Plugin {
    pub name: String,
    pub module: PathBuf,
    pub kind: FilterType,
    pub configuration: String,
    pub root_id: String,
    pub vm_id: String,
    pub env: BTreeMap<String, String>,
    pub fail: FailStrategy,
    pub isolation: Option<String>,
    pub allow_on_headers_stop_iteration: bool,
    pub limits: BTreeMap<String, String>,
}

impl Plugin {
    /// What both hosts call it: namespace and name.
    fn full_name(&self) -> String {
        format!("default/{}", self.name)
    }
}

/// A program that can be started.
#[derive(Clone, Debug)]
pub enum Host {
    /// Ours.
    Portcullis(Portcullis),
    /// The reference.
    Envoy(Envoy),
}

impl Host {
    /// Which.
    #[must_use]
    pub fn name(&self) -> HostName {
        match self {
            Host::Portcullis(_) => HostName::Portcullis,
            Host::Envoy(_) => HostName::Envoy,
        }
    }

    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// It refuses the configuration, or does not serve in time; with the end of what it said.
    pub fn start(&self, setup: &Setup) -> Result<Running> {
        match self {
            Host::Portcullis(host) => host.start(setup),
            Host::Envoy(host) => host.start(setup),
        }
        .with_context(|| format!("{} does not start", self.name()))
    }
}

/// A host that serves. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    host: HostName,
    process: Process,
    listeners: BTreeMap<String, SocketAddr>,
    admin: SocketAddr,
    /// Of its workers, where lines say which thread wrote them.
    threads: Vec<u64>,
    home: TempDir,
}

impl Running {
    /// Where a listener is bound.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn address(&self, listener: &str) -> Result<SocketAddr> {
        let found = self.listeners.get(listener);
        found.copied().with_context(|| format!("{} has no listener {listener}", self.host))
    }

    /// What guests have logged on workers so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.process.guest_lines(|line| self.is_ours(line))
    }

    /// How many lines there are so far.
    #[must_use]
    pub fn line_count(&self) -> usize {
        self.process.wait(Duration::ZERO, |lines| Some(lines.len())).unwrap_or_default()
    }

    /// Waits for a line of a guest, not looking at the first `skip`; `None` when it does not come in time. Blocks its thread.
    #[must_use]
    pub fn find_line(
        &self,
        skip: usize,
        patience: Duration,
        wanted: impl Fn(&Line) -> bool,
    ) -> Option<Line> {
        self.process.wait(patience, |lines| {
            let new = lines.iter().skip(skip);
            new.filter(|line| self.is_ours(line)).find(|line| wanted(line)).cloned()
        })
    }

    /// Takes its filters away while it goes on, if the end of the process is not the end of plugins; answers whether it did.
    ///
    /// # Errors
    /// The new configuration cannot be written.
    pub fn withdraw_filters(&self) -> Result<bool> {
        match self.host {
            HostName::Portcullis => portcullis::withdraw_filters(self.home.path()).map(|()| true),
            HostName::Envoy => Ok(false),
        }
    }

    /// Whether the process lives.
    pub fn lives(&mut self) -> bool {
        self.process.lives()
    }

    /// Counters and gauges that guests have defined.
    ///
    /// # Errors
    /// The admin server does not answer.
    pub fn metrics(&self) -> Result<BTreeMap<String, u64>> {
        match self.host {
            HostName::Portcullis => portcullis::metrics(self.admin),
            HostName::Envoy => envoy::metrics(self.admin),
        }
    }

    /// Tells it to end and waits until it has; all that guests have logged.
    ///
    /// # Errors
    /// It ends by a signal, or not in time.
    pub fn stop(mut self) -> Result<Vec<Line>> {
        self.process.stop()?;
        Ok(self.lines())
    }

    /// Written on a worker.
    fn is_ours(&self, line: &Line) -> bool {
        line.thread.is_none_or(|thread| self.threads.contains(&thread))
    }
}
