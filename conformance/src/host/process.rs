//! A child process: collects what it says, tells lines of guests from its own, and sees to it that it ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that takes no time.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Lines of its own log that an error shows.
const LAST_LINES: usize = 12;
/// Between two looks at something that cannot be waited for.
const LOOK: Duration = Duration::from_millis(5);

/// A line that a guest has logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `default/NAME`.
    pub filter: String,
    /// As the guest wrote it.
    pub message: String,
    /// Where it ran, if the host says.
    pub thread: Option<u64>,
}

/// Finds the guest's line in a line of the host's log.
pub type Reader = Box<dyn Fn(&str) -> Option<Line> + Send>;

#[derive(Debug)]
pub struct Process {
    child: Child,
    log: Arc<Log>,
    reading: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Log {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    own: Vec<String>,
    guests: Vec<Line>,
    ended: bool,
}

impl Log {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Starts the command; everything that it writes to standard error is read.
    pub fn start(command: &mut Command, reader: Reader) -> Result<Process> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{:?}", command.get_program()))?;
        let log = Arc::new(Log::default());
        let ours = log.clone();
        let stderr = child.stderr.take().context("no standard error")?;
        let reading = thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let guest = reader(&line);
                let mut said = ours.said();
                match guest {
                    Some(guest) => said.guests.push(guest),
                    None => said.own.push(line),
                }
                ours.more.notify_all();
            }
            ours.said().ended = true;
            ours.more.notify_all();
        });
        Ok(Process { child, log, reading: Some(reading) })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The guests' lines so far that are wanted.
    pub fn guest_lines(&self, wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
        self.log.said().guests.iter().filter(|line| wanted(line)).cloned().collect()
    }

    /// What `found` finds in the guests' lines; `None` when the time is over or the process has ended.
    pub fn wait<T>(&self, patience: Duration, found: impl Fn(&[Line]) -> Option<T>) -> Option<T> {
        let until = Instant::now() + patience;
        let mut said = self.log.said();
        loop {
            let here = found(&said.guests);
            let left = until.saturating_duration_since(Instant::now());
            if here.is_some() || said.ended || left.is_zero() {
                return here;
            }
            let waited = self.log.more.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Looks until `found` answers; an error when the process has ended or the time is over.
    pub fn until<T>(&mut self, found: impl Fn(&[String]) -> Option<T>) -> Result<T> {
        let started = Instant::now();
        loop {
            if let Some(found) = found(&self.log.said().own) {
                return Ok(found);
            }
            if !self.lives() {
                self.finish_reading();
                bail!("it has ended; it said\n{}", self.last_lines());
            }
            ensure!(started.elapsed() < PATIENCE, "not in time; it said\n{}", self.last_lines());
            thread::sleep(LOOK);
        }
    }

    /// Tells it to end and waits.
    pub fn stop(&mut self) -> Result<()> {
        let _ended_already = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "it does not end; it said\n{}",
                self.last_lines()
            );
            thread::sleep(LOOK);
        };
        self.finish_reading();
        ensure!(status.success(), "it ended with {status}; it said\n{}", self.last_lines());
        Ok(())
    }

    fn finish_reading(&mut self) {
        if let Some(reading) = self.reading.take() {
            let _only_reads = reading.join();
        }
    }

    pub fn last_lines(&self) -> String {
        let said = self.log.said();
        said.own[said.own.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}
