//! The proxies: each started on a folder of its own, from a file of `peers/`, with one worker on the proxy's core; each counts
//! requests, and those that run filters tell the filters' counters.

mod counters;

pub use counters::{metric, requests_of_frontend, stat};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::modules::Modules;
use crate::place;
use crate::process::{Process, free_port, local};
use crate::scenario::{PeerName, Scenario, Speech};
use crate::template::{Filling, Words};
use crate::tools;
use crate::upstream::{StubStatus, Upstream, as_root, configuration};

use counters::Counters;

/// Connections of clients that a proxy has room for, besides those that idle.
const SLOTS: u32 = 1024;

/// A proxy that can be started.
#[derive(Clone, Debug)]
pub struct Program {
    /// Which one.
    pub name: PeerName,
    /// The file.
    pub path: PathBuf,
}

/// What every proxy is given.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Behind it.
    pub upstream: &'a Upstream,
    /// Its filters.
    pub modules: &'a Modules,
    /// Of this run.
    pub certificates: &'a Path,
}

/// A running proxy.
#[derive(Debug)]
pub struct Peer {
    /// Which one.
    pub name: PeerName,
    /// Where it takes requests.
    pub address: SocketAddr,
    process: Process,
    counters: Counters,
    _folder: TempDir,
}

/// As long as this lives, the proxy runs.
#[derive(Debug)]
pub struct Awake<'a>(&'a Peer);

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        let _ended_already = self.0.rest();
    }
}

impl Program {
    /// The line that it says of its version.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn version(&self) -> Result<String> {
        let argument = match self.name {
            PeerName::Portcullis | PeerName::Envoy => "--version",
            PeerName::Nginx | PeerName::Haproxy => "-v",
        };
        let line = tools::version(&self.path, argument)?;
        // Envoy prints its path, and COMMIT/VERSION/TREE/KIND/TLS.
        let envoy = line.rsplit('/').nth(3).filter(|_| self.name == PeerName::Envoy);
        Ok(envoy.map_or_else(|| line.clone(), |version| format!("Envoy {version}")))
    }

    /// Starts it for a scenario; it takes requests when this returns.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, scenario: &Scenario, stage: &Stage) -> Result<Peer> {
        if self.name == PeerName::Portcullis && scenario.filter.is_some() {
            // The first start compiles and keeps what it compiled, every other one finds it.
            self.launch(scenario, stage)?;
        }
        self.launch(scenario, stage)
    }

    fn launch(&self, scenario: &Scenario, stage: &Stage) -> Result<Peer> {
        let folder = tempfile::tempdir()?;
        let (port, admin) = (free_port()?, free_port()?);
        let mut filling = filling(self.name, scenario, stage)?;
        filling.word("port", port).word("admin", admin).word("folder", folder.path().display());
        let command = self.command(&filling, folder.path())?;
        let mut process = Process::start(&command, place::PROXY_CORE, folder.path())?;
        let counters = match self.name {
            PeerName::Portcullis => Counters::Portcullis(local(admin)),
            PeerName::Envoy => Counters::Envoy(local(admin)),
            PeerName::Nginx => Counters::Nginx(StubStatus::at(local(admin))),
            PeerName::Haproxy => Counters::Haproxy(folder.path().join("stats.sock")),
        };
        let started = process.until_listening(local(port));
        started.with_context(|| format!("{} does not start ({})", self.name, scenario.name))?;
        Ok(Peer { name: self.name, address: local(port), process, counters, _folder: folder })
    }

    fn command(&self, filling: &Filling, folder: &Path) -> Result<Command> {
        let write = |name: &str| configuration(name, filling, folder);
        let mut command = Command::new(&self.path);
        match self.name {
            PeerName::Portcullis => {
                command.args(["run", "--cache"]).arg(place::kept().join("cache"));
                command.arg("--config").arg(write("portcullis.yaml")?);
            }
            PeerName::Nginx => {
                command.arg("-p").arg(folder).arg("-c").arg(write("nginx.conf")?);
            }
            PeerName::Haproxy => {
                write("routes.map")?;
                command.args(["-db", "-f"]).arg(write("haproxy.cfg")?);
            }
            PeerName::Envoy => {
                command.args(["--concurrency", "1", "--disable-hot-restart"]);
                command.args(["--log-level", "warn", "--config-path"]).arg(write("envoy.yaml")?);
            }
        }
        Ok(command)
    }
}

impl Peer {
    /// The root of its processes.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops it until it is woken: whatever it does by itself, such as looking at the time, is not to be in the way of those that are
    /// measured meanwhile.
    ///
    /// # Errors
    /// It has ended.
    pub fn rest(&self) -> Result<()> {
        self.process.rest()
    }

    /// Lets it run; it rests again when the value that this returns is gone.
    ///
    /// # Errors
    /// It has ended.
    pub fn wake(&self) -> Result<Awake<'_>> {
        self.process.wake()?;
        Ok(Awake(self))
    }

    /// How many requests of clients it has counted.
    ///
    /// # Errors
    /// It does not say.
    pub fn requests(&self) -> Result<u64> {
        let counted = self.counters.requests();
        counted.with_context(|| format!("{} said\n{}", self.name, self.process.last_lines()))
    }

    /// What its filters have counted in this metric, all together.
    ///
    /// # Errors
    /// It does not say.
    pub fn filter_count(&self, metric: &str) -> Result<u64> {
        let counted = self.counters.filter_count(metric);
        counted.with_context(|| format!("{} said\n{}", self.name, self.process.last_lines()))
    }
}

/// What a scenario means for configurations.
fn filling(peer: PeerName, scenario: &Scenario, stage: &Stage) -> Result<Filling> {
    let secure = scenario.upstream == Speech::Mtls;
    let mut filling = Filling::default();
    filling.word("origin", stage.upstream.address(scenario.upstream).port());
    filling.word("certificates", stage.certificates.display());
    filling.word("scheme", if secure { "https" } else { "http" });
    filling.word("slots", SLOTS + scenario.most_idle());
    as_root(&mut filling);
    let flags: &[&str] = match scenario.client {
        Speech::Http1 => &["http1"],
        Speech::Http2 => &["http2"],
        Speech::Tls => &["tls", "only_tls"],
        Speech::Mtls => &["tls", "mtls"],
    };
    let others = [
        (secure, "secure"),
        (scenario.callout, "callout"),
        (scenario.routes > 1, "routes"),
        (scenario.filter.as_ref().is_some_and(|filters| filters.share_vm), "share_vm"),
    ];
    let others = others.iter().filter(|(holds, _)| *holds).map(|(_, flag)| flag);
    for flag in flags.iter().chain(others) {
        filling.flag(flag);
    }
    let one = |name: &str, value: String| Words::from([(name.to_owned(), value)]);
    let routes = scenario.prefixes().into_iter().map(|prefix| one("path", prefix));
    filling.list("route", routes.collect());
    let clusters = ["origin", "auth"].into_iter().take(if scenario.callout { 2 } else { 1 });
    filling.list("cluster", clusters.map(|name| one("name", name.to_owned())).collect());
    filling.list("filter", filters(peer, scenario, stage.modules)?);
    Ok(filling)
}

fn filters(peer: PeerName, scenario: &Scenario, modules: &Modules) -> Result<Vec<Words>> {
    let Some(filters) = scenario.filters_on(peer) else { return Ok(Vec::new()) };
    let module = modules.get(&filters.module).context("a module that was not compiled")?;
    let module = std::path::absolute(module)?;
    let filter = |number: u32| {
        // A JSON string is a YAML string too.
        let config = serde_json::to_string(&filters.config(number)?)?;
        Ok(Words::from([
            ("name".to_owned(), format!("bench-{number}")),
            ("priority".to_owned(), (filters.count - number).to_string()),
            ("module".to_owned(), module.display().to_string()),
            ("config".to_owned(), config),
        ]))
    };
    (1..=filters.count).map(filter).collect()
}
