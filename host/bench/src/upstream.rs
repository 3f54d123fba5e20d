//! What stands behind every proxy: an nginx with one worker that answers at once and counts what it has answered.

use std::cell::Cell;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tempfile::TempDir;

use crate::net;
use crate::place;
use crate::process::{Process, free_port, local};
use crate::scenario::Speech;
use crate::template::{Filling, fill};

/// As `upstream.conf` has it.
const GREETING: &str = "It is a pleasure to be your upstream\n";
/// Of those that are alike.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
/// Under `/body/`, with their sizes.
const TEXTS: [(&str, usize); 3] = [("1k", 1 << 10), ("64k", 64 << 10), ("1m", 1 << 20)];

/// Where it can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On 127.0.0.1.
    OneAddress,
    /// On all of 127.0.0.0/8, as if it were many; nobody else is answered.
    EveryAddress,
}

/// The running upstream.
#[derive(Debug)]
pub struct Upstream {
    process: Process,
    folder: TempDir,
    plain: SocketAddr,
    secure: SocketAddr,
    wide: u16,
    status: StubStatus,
}

impl Upstream {
    /// Starts it, with certificates of this run.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(nginx: &Path, certificates: &Path, reach: Reach) -> Result<Upstream> {
        let folder = tempfile::tempdir()?;
        let bodies = folder.path().join("body");
        fs::create_dir(&bodies)?;
        for (name, size) in TEXTS {
            fs::write(bodies.join(name), text(size))?;
        }
        let [plain, secure, status, wide] =
            [free_port()?, free_port()?, free_port()?, free_port()?];
        let mut filling = Filling::default();
        filling.word("folder", folder.path().display()).word("plain", plain);
        filling.word("secure", secure).word("status", status);
        filling.word("certificates", certificates.display());
        filling.word("wide", wide);
        if reach == Reach::EveryAddress {
            filling.flag("wide");
        }
        as_root(&mut filling);
        let config = configuration("upstream.conf", &filling, folder.path())?;
        let mut command = Command::new(nginx);
        command.arg("-c").arg(config).arg("-p").arg(folder.path());
        let mut process = Process::start(&command, place::OTHER_CORE, folder.path())?;
        process.until_listening(local(status)).context("the upstream does not start")?;
        let status = StubStatus::at(local(status));
        let (plain, secure) = (local(plain), local(secure));
        Ok(Upstream { process, folder, plain, secure, wide, status })
    }

    /// Where proxies reach it.
    #[must_use]
    pub fn address(&self, speech: Speech) -> SocketAddr {
        if speech == Speech::Mtls { self.secure } else { self.plain }
    }

    /// So many addresses of it, all alike; only with [`Reach::EveryAddress`].
    pub fn addresses(&self, count: u32) -> impl Iterator<Item = SocketAddr> {
        let address = |number: u32| Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + number);
        let wide = self.wide;
        (0..count).map(move |number| SocketAddr::from((address(number), wide)))
    }

    /// What it answers to a path.
    ///
    /// # Errors
    /// The path is under `/body/`, and there is no such text.
    pub fn body(&self, path: &str) -> Result<Bytes> {
        let Some(name) = path.strip_prefix("/body/") else { return Ok(GREETING.into()) };
        let file = self.folder.path().join("body").join(name);
        Ok(fs::read(file).with_context(|| format!("the upstream has no {path}"))?.into())
    }

    /// How many requests it has answered so far.
    ///
    /// # Errors
    /// It does not say.
    pub fn requests(&self) -> Result<u64> {
        let counted = self.status.requests();
        counted.with_context(|| format!("the upstream said\n{}", self.process.last_lines()))
    }
}

fn text(size: usize) -> String {
    "the quick brown fox jumps over the lazy dog ".chars().cycle().take(size).collect()
}

/// Workers of nginx give up root's rights, and then cannot read what is ours.
pub fn as_root(filling: &mut Filling) {
    if rustix::process::geteuid().is_root() {
        filling.flag("root");
    }
}

/// Fills a file of `peers/` and writes it, under the same name, into a folder.
///
/// # Errors
/// The file is not there or lacks a word.
pub fn configuration(name: &str, filling: &Filling, folder: &Path) -> Result<PathBuf> {
    let template = fs::read_to_string(place::home().join("peers").join(name))?;
    let file = folder.join(name);
    fs::write(&file, fill(&template, filling).with_context(|| format!("peers/{name}"))?)?;
    Ok(file)
}

/// nginx's page of counters, which counts requests for itself too.
#[derive(Debug)]
pub struct StubStatus {
    address: SocketAddr,
    asked: Cell<u64>,
}

impl StubStatus {
    /// The page there.
    #[must_use]
    pub fn at(address: SocketAddr) -> StubStatus {
        StubStatus { address, asked: Cell::new(0) }
    }

    /// How many requests nginx has answered, those for this page left out.
    ///
    /// # Errors
    /// It does not say.
    pub fn requests(&self) -> Result<u64> {
        self.asked.set(self.asked.get() + 1);
        let page = net::page(self.address, "/")?;
        let all = requests(&page).with_context(|| format!("no count in {page}"))?;
        Ok(all - self.asked.get())
    }
}

/// The third number below `server accepts handled requests`.
#[must_use]
pub fn requests(page: &str) -> Option<u64> {
    let mut lines = page.lines().skip_while(|line| !line.starts_with("server accepts"));
    lines.nth(1)?.split_whitespace().nth(2)?.parse().ok()
}
