//! This proxy by itself: documents in a folder, replaced the way operators replace files, and the process that serves them. What it
//! costs is measured from outside, as that of any peer.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::net;
use crate::peers::metric;
use crate::process::{Process, free_port, local, pinned};
use crate::template::{Filling, Words, fill};
use crate::upstream::configuration;
use crate::waiting;

/// Between two looks whether it answers: what a start-up time may be off by.
const GLANCE: Duration = Duration::from_micros(250);

/// In one file: it may hold 100 000 values (P0113).
const ROUTES: usize = 1000;

/// Documents that a proxy serves.
#[derive(Debug)]
pub struct Documents {
    folder: TempDir,
    port: u16,
    admin: u16,
}

impl Documents {
    /// Fills `peers/alone.yaml` and `peers/routes.yaml`, with ports on which nobody listens.
    ///
    /// # Errors
    /// A word is missing, or the folder cannot be written.
    pub fn new(filling: &Filling) -> Result<Documents> {
        let documents =
            Documents { folder: tempfile::tempdir()?, port: free_port()?, admin: free_port()? };
        fs::create_dir(documents.path())?;
        let mut filling = filling.clone();
        filling.word("port", documents.port).word("admin", documents.admin);
        configuration("alone.yaml", &filling, &documents.path())?;
        let form = Form::read("routes.yaml")?;
        for (part, filling) in parts(&filling).iter().enumerate() {
            documents.replace(&format!("routes-{part}.yaml"), &fill(&form.0, filling)?)?;
        }
        Ok(documents)
    }

    /// What `--config` is given.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("documents")
    }

    /// Where a proxy with these documents takes requests.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// Writes a document, or another text in its place, in one step.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn replace(&self, name: &str, text: &str) -> Result<()> {
        let new = self.folder.path().join("new");
        fs::write(&new, text)?;
        Ok(fs::rename(new, self.path().join(name))?)
    }
}

/// Fillings of `peers/routes.yaml`: each with some of the paths or of the hosts.
fn parts(whole: &Filling) -> Vec<Filling> {
    let list = |name: &str| whole.lists.get(name).cloned().unwrap_or_default();
    let (matches, hosts) = (list("match"), list("host"));
    let mut parts = Vec::new();
    for some in matches.chunks(ROUTES) {
        let mut part = Filling::default();
        part.flag("paths").list("match", some.to_vec()).list("host", Vec::new());
        parts.push(part);
    }
    for some in hosts.chunks(ROUTES) {
        let mut part = Filling::default();
        part.list("host", some.to_vec());
        parts.push(part);
    }
    for (number, part) in parts.iter_mut().enumerate() {
        part.word("part", number);
    }
    parts
}

/// The words of a list of which each turn has one.
#[must_use]
pub fn turns(name: &str, values: impl IntoIterator<Item = String>) -> Vec<Words> {
    values.into_iter().map(|value| Words::from([(name.to_owned(), value)])).collect()
}

/// One endpoint, a rule for everything, nothing else.
#[must_use]
pub fn plainest(workers: u32, origin: SocketAddr) -> Filling {
    let mut filling = Filling::default();
    filling.word("workers", workers).list("endpoint", turns("address", [origin.to_string()]));
    filling.list("match", vec![a_match("PathPrefix", "/")]);
    filling.list("host", Vec::new()).list("filter", Vec::new());
    filling
}

/// The words of a rule.
#[must_use]
pub fn a_match(kind: &str, value: &str) -> Words {
    Words::from([("type".to_owned(), kind.to_owned()), ("value".to_owned(), value.to_owned())])
}

/// The words of that many small filters, each with a header of its own.
///
/// # Errors
/// There is no working directory.
pub fn small_filters(module: &Path, count: u32) -> Result<Vec<Words>> {
    let module = std::path::absolute(module)?.display().to_string();
    let filter = |number: u32| {
        Words::from([
            ("name".to_owned(), format!("bench-{number}")),
            ("priority".to_owned(), (count - number).to_string()),
            ("module".to_owned(), module.clone()),
            ("config".to_owned(), format!("x-bench-{number}")),
        ])
    };
    Ok((1..=count).map(filter).collect())
}

/// A file of `peers/` that is filled many times.
#[derive(Debug)]
pub struct Form(String);

impl Form {
    /// Reads it.
    ///
    /// # Errors
    /// It is not there.
    pub fn read(name: &str) -> Result<Form> {
        let file = crate::place::home().join("peers").join(name);
        Ok(Form(fs::read_to_string(&file).with_context(|| file.display().to_string())?))
    }

    /// Fills it.
    ///
    /// # Errors
    /// A word is missing.
    pub fn with(&self, words: &[(&str, &str)]) -> Result<String> {
        let mut filling = Filling::default();
        for (name, value) in words {
            filling.word(name, value);
        }
        fill(&self.0, &filling)
    }
}

/// How it is run.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The file.
    pub program: &'a Path,
    /// Where compiled modules are kept.
    pub cache: &'a Path,
    /// As `taskset` has them.
    pub cores: &'a str,
}

/// It runs.
#[derive(Debug)]
pub struct Alone {
    process: Process,
    admin: SocketAddr,
    /// From before it was started to the whole first answer of the upstream through it.
    pub start: Duration,
}

impl Setting<'_> {
    /// Starts it; it has answered once when this returns.
    ///
    /// # Errors
    /// It does not start, or answers something else.
    pub fn start(&self, documents: &Documents, body: &[u8]) -> Result<Alone> {
        let mut command = Command::new(self.program);
        command.args(["run", "--cache"]).arg(self.cache).arg("--config").arg(documents.path());
        let begun = Instant::now();
        let mut process = Process::start(&command, self.cores, documents.folder.path())?;
        let at = documents.address();
        // As long as nobody listens, a connection may find itself at its other end.
        let answered = |stream: &TcpStream| stream.local_addr().is_ok_and(|own| own != at);
        let answer = || TcpStream::connect(at).ok().filter(answered);
        let stream = process.until_every(GLANCE, answer).context("it does not start")?;
        let answered = waiting::asked(stream, body);
        answered.with_context(|| format!("it said\n{}", process.last_lines()))?;
        Ok(Alone { process, admin: local(documents.admin), start: begun.elapsed() })
    }

    /// How long `check` takes.
    ///
    /// # Errors
    /// It finds something wrong.
    pub fn check(&self, documents: &Documents) -> Result<Duration> {
        let mut command = Command::new(self.program);
        command.arg("check").arg("--config").arg(documents.path());
        let begun = Instant::now();
        let said = pinned(&command, self.cores).stdin(Stdio::null()).output()?;
        let took = begun.elapsed();
        let text = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success(), "check: {text}{}", String::from_utf8_lossy(&said.stdout));
        Ok(took)
    }
}

impl Alone {
    /// The root of its processes.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How many requests it has counted.
    ///
    /// # Errors
    /// It does not say.
    pub fn requests(&self) -> Result<u64> {
        let page = net::page(self.admin, "/metrics");
        let page = page.with_context(|| format!("it said\n{}", self.process.last_lines()))?;
        Ok(metric(&page, "portcullis_requests_total"))
    }

    /// What it said last.
    #[must_use]
    pub fn last_lines(&self) -> String {
        self.process.last_lines()
    }
}
