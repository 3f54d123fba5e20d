//! A child process on a core of its own: started on one folder, awaited, read from `/proc`, and ended with its value.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long a start or an end may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at something that cannot be waited for.
const LOOK: Duration = Duration::from_millis(5);
/// Lines that an error shows.
const LAST_LINES: usize = 12;
/// Below the range from which the system takes ports of clients.
const FIRST_PORT: u16 = 18_000;
static NEXT_PORT: AtomicU16 = AtomicU16::new(FIRST_PORT);

/// A running program. It ends with this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command on a core; what it says goes to a file in `folder`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &Command, core: &str, folder: &Path) -> Result<Process> {
        let log = folder.join("log");
        let file = File::create(&log)?;
        let mut pinned = pinned(command, core);
        pinned.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // A group of its own: all of it can rest, and the system wakes those that rest when we end without a word.
        pinned.process_group(0);
        let child = pinned.spawn().context("no setpriv (Debian: util-linux)")?;
        Ok(Process { child, log })
    }

    /// The process that was started; the root of its tree.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops it with its children, until [`Process::wake`].
    ///
    /// # Errors
    /// It has ended.
    pub fn rest(&self) -> Result<()> {
        Ok(kill_process_group(Pid::from_child(&self.child), Signal::STOP)?)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn wake(&self) -> Result<()> {
        Ok(kill_process_group(Pid::from_child(&self.child), Signal::CONT)?)
    }

    /// Looks until `found` answers.
    ///
    /// # Errors
    /// The process has ended, or the time is over; with its last lines.
    pub fn until<T>(&mut self, found: impl FnMut() -> Option<T>) -> Result<T> {
        self.until_every(LOOK, found)
    }

    /// The same, with so long between two looks.
    ///
    /// # Errors
    /// As [`Process::until`].
    pub fn until_every<T>(
        &mut self,
        pause: Duration,
        mut found: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            if let Some(found) = found() {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}); it said\n{}", self.last_lines());
            }
            ensure!(started.elapsed() < PATIENCE, "not in time; it said\n{}", self.last_lines());
            thread::sleep(pause);
        }
    }

    /// Until somebody accepts connections there.
    ///
    /// # Errors
    /// As [`Process::until`].
    pub fn until_listening(&mut self, address: SocketAddr) -> Result<()> {
        // As long as nobody listens, a connection may find itself at its other end.
        let answered = |stream: &TcpStream| stream.local_addr().is_ok_and(|own| own != address);
        self.until(|| TcpStream::connect(address).ok().filter(answered)).map(drop)
    }

    /// What it said last.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ended_already = self.wake();
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && started.elapsed() < PATIENCE {
            thread::sleep(LOOK);
        }
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

/// The same command, on one core only, and ended when we end, however that happens.
#[must_use]
pub fn pinned(command: &Command, core: &str) -> Command {
    let mut pinned = Command::new("setpriv");
    pinned
        .args(["--pdeathsig", "TERM", "taskset", "-c", core])
        .arg(command.get_program())
        .args(command.get_args());
    pinned
}

/// A port of 127.0.0.1 on which nobody listens.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    for _ in 0..10_000 {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}

/// The address of a port here.
#[must_use]
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
