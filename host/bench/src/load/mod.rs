//! Load generators: which one can ask what a scenario asks, how it is called, and what it counted and timed.

mod h2load;
mod oha;
mod wrk;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::place;
use crate::process::pinned;
use crate::scenario::{Load, Scenario, Speech};
use crate::tools::{self, Found};

/// A generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// HTTP/1.1, with TLS or without, as fast as it goes.
    Wrk,
    /// HTTP/2, as fast as it goes.
    H2load,
    /// A fixed rate; client certificates.
    Oha,
}

/// What a generator saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Responses.
    pub requests: u64,
    /// Responses that are no 2xx, and requests without one.
    pub failures: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Median latency, in microseconds.
    pub p50: f64,
    /// 99th percentile of it.
    pub p99: f64,
}

/// One of many requests that are asked in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom it is for, if not the address.
    pub host: Option<String>,
    /// What is asked for.
    pub path: String,
}

impl Ask {
    /// A path on the address.
    #[must_use]
    pub fn path(path: &str) -> Ask {
        Ask { host: None, path: path.to_owned() }
    }
}

/// Whom it is turned on.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The proxy.
    pub address: SocketAddr,
    /// What is asked.
    pub scenario: &'a Scenario,
    /// Of this run.
    pub certificates: &'a Path,
}

impl Target<'_> {
    fn url(&self, path: &str) -> String {
        let tls = matches!(self.scenario.client, Speech::Tls | Speech::Mtls);
        format!("{}://{}{path}", if tls { "https" } else { "http" }, self.address)
    }
}

/// The generators of this machine.
#[derive(Clone, Debug, Default)]
pub struct Generators(BTreeMap<Tool, PathBuf>);

impl Tool {
    /// The one that can do it; `None` for idle connections, which need none.
    #[must_use]
    pub fn of(scenario: &Scenario, load: Load) -> Option<Tool> {
        match (load, scenario.client) {
            (Load::Idle(_), _) => None,
            (Load::Rate(_), _) | (_, Speech::Mtls) => Some(Tool::Oha),
            (_, Speech::Http2) => Some(Tool::H2load),
            (_, Speech::Http1 | Speech::Tls) => Some(Tool::Wrk),
        }
    }

    /// Its program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tool::Wrk => "wrk",
            Tool::H2load => "h2load",
            Tool::Oha => "oha",
        }
    }

    /// Finds or installs it.
    pub fn install(self, say: &mut dyn FnMut(&str)) -> Found {
        match self {
            Tool::Wrk => tools::debian(self.name(), "wrk", say),
            Tool::H2load => tools::debian(self.name(), "nghttp2-client", say),
            Tool::Oha => tools::oha(say),
        }
    }
}

impl Generators {
    /// Adds one.
    pub fn add(&mut self, tool: Tool, program: PathBuf) {
        self.0.insert(tool, program);
    }

    /// Whether it is there.
    #[must_use]
    pub fn has(&self, tool: Tool) -> bool {
        self.0.contains_key(&tool)
    }

    /// The lines that they say of their versions.
    pub fn versions(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|(tool, program)| {
            let argument = if *tool == Tool::Wrk { "-v" } else { "--version" };
            let line = tools::version(program, argument).ok()?;
            Some(line.split(['[', '(']).next().unwrap_or(&line).trim().to_owned())
        })
    }

    /// Asks for that many seconds.
    ///
    /// # Errors
    /// The generator is missing, ends badly, or says what cannot be read.
    pub fn run(&self, target: &Target, load: Load, seconds: u32) -> Result<Sample> {
        let tool = Tool::of(target.scenario, load).context("idle connections need no generator")?;
        let program = self.0.get(&tool).with_context(|| format!("no {}", tool.name()))?;
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(program);
        let sample = match tool {
            Tool::Wrk => {
                wrk::fill(&mut command, target, seconds, folder.path())?;
                wrk::read(&said(&command)?)
            }
            Tool::H2load => {
                let log = folder.path().join("log");
                h2load::fill(&mut command, target, seconds, &log);
                let text = said(&command)?;
                h2load::read(&text, &std::fs::read_to_string(log)?)
            }
            Tool::Oha => {
                oha::fill(&mut command, target, load, seconds);
                oha::read(&said(&command)?)
            }
        };
        sample.context(tool.name())
    }
}

impl Generators {
    /// Asks for all of these in turn, with wrk.
    ///
    /// # Errors
    /// It is missing, ends badly, or says what cannot be read.
    pub fn in_turn(
        &self,
        address: SocketAddr,
        asks: &[Ask],
        connections: u32,
        seconds: u32,
    ) -> Result<Sample> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(self.0.get(&Tool::Wrk).context("no wrk")?);
        wrk::fill_amount(&mut command, connections, seconds);
        wrk::fill_in_turn(&mut command, asks, folder.path())?;
        command.arg(format!("http://{address}/"));
        wrk::read(&said(&command)?).context("wrk")
    }
}

fn said(command: &Command) -> Result<String> {
    let output = pinned(command, place::OTHER_CORE).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {text}{errors}", output.status);
    Ok(text)
}

/// What the generators say, for tests of how it is read.
pub mod read {
    pub use super::h2load::read as h2load;
    pub use super::oha::read as oha;
    pub use super::wrk::read as wrk;
}
