//! A child process whose words go to a file, and which ends with its value, or with the tests: its standard input is a pipe
//! that nobody writes to.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::PATIENCE;

/// Lines that a failure shows.
const LAST_LINES: usize = 20;
/// Between two looks at something that cannot be waited for.
const LOOK: Duration = Duration::from_millis(20);

pub struct Process {
    child: Child,
    log: PathBuf,
    /// What the file held before.
    before: usize,
}

impl Process {
    /// What it says is added to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Process {
        let before = fs::read(log).map_or(0, |bytes| bytes.len());
        let file: File = OpenOptions::new().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file);
        Process { child: command.spawn().unwrap(), log: log.to_owned(), before }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has said since it was started.
    pub fn said(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.before..).unwrap_or_default()).into_owned()
    }

    /// Looks until `found` answers. `None`: the process has ended.
    pub fn until<T>(&mut self, mut found: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let started = Instant::now();
        loop {
            let lives = self.lives();
            if let Some(found) = found(&self.said()) {
                return Some(found);
            }
            if !lives {
                return None;
            }
            assert!(started.elapsed() < PATIENCE, "not in time; it said\n{}", self.last_lines());
            thread::sleep(LOOK);
        }
    }

    pub fn last_lines(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Tells it to end, and waits.
    pub fn stop(&mut self) {
        let _ended_already = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "it ended with {status}; it said\n{}", self.last_lines());
    }

    /// As a machine that loses power.
    pub fn kill(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
