//! The command as a child process on a folder of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;

/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(10);
/// Lines of the log that a failed test shows.
const LAST_LINES: usize = 40;

/// A running `portcullis run`. Ends with this value.
pub struct Program {
    child: Child,
    home: TempDir,
    log: Log,
    listeners: Vec<(String, SocketAddr)>,
    admin: Option<SocketAddr>,
}

/// What the program has written to stderr.
type Log = Arc<Mutex<Vec<String>>>;

impl Program {
    /// Writes the files and starts the program on them; returns when it serves.
    pub fn start(files: &[(&str, &[u8])]) -> Program {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("conf")).unwrap();
        for (name, bytes) in files {
            fs::write(home.path().join("conf").join(name), bytes).unwrap();
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["run", "--config"])
            .arg(home.path().join("conf"))
            .arg("--cache")
            .arg(home.path().join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let log: Log = Arc::default();
        let ours = log.clone();
        thread::spawn(move || {
            said.lines().map_while(Result::ok).for_each(|line| {
                ours.lock().unwrap().push(line);
            });
        });
        let mut program = Program { child, home, log, listeners: Vec::new(), admin: None };
        program.learn_addresses();
        program
    }

    /// From what the program says when it serves.
    fn learn_addresses(&mut self) {
        let started = Instant::now();
        let said =
            |log: &Log| log.lock().unwrap().iter().any(|line| line.starts_with("generation "));
        while !said(&self.log) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && started.elapsed() < PATIENCE,
                "it does not start: {ended:?}"
            );
            thread::sleep(LOOK);
        }
        for line in self.log.lock().unwrap().iter() {
            if let Some(rest) = line.strip_prefix("listening ") {
                let (url, name) = rest.trim_end_matches(')').split_once(" (").unwrap();
                let (_, address) = url.split_once("://").unwrap();
                self.listeners.push((name.to_owned(), address.parse().unwrap()));
            } else if let Some(address) = line.strip_prefix("admin http://") {
                self.admin = Some(address.parse().unwrap());
            }
        }
    }

    /// Where a listener is bound.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(name, _)| name == listener);
        found.unwrap_or_else(|| panic!("no listener {listener}")).1
    }

    /// Replaces a file in one step.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let new = self.home.path().join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.file(name)).unwrap();
    }

    /// The path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join("conf").join(name)
    }

    /// `/status`.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.page("/status")).unwrap()
    }

    /// Sum of the series of a metric whose labels contain all of `labels`; 0 when there are none.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let value = |line: &str| line.rsplit_once(' ')?.1.parse::<u64>().ok();
        self.page("/metrics")
            .lines()
            .filter(|line| {
                let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
                rest.is_some_and(|rest| labels.iter().all(|label| rest.contains(label)))
            })
            .filter_map(value)
            .sum()
    }

    /// Waits until `/status` says so.
    #[track_caller]
    pub fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: not so, but {status:#}");
            thread::sleep(LOOK);
        }
    }

    /// Resident memory now, in KiB.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The part of it that are pages of files, in KiB.
    pub fn of_files(&self) -> u64 {
        self.memory("RssFile:")
    }

    /// The rest of it, in KiB.
    pub fn not_of_files(&self) -> u64 {
        self.memory("RssAnon:")
    }

    /// The most resident memory since [`forget_peak`](Self::forget_peak), in KiB.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// proc(5), `clear_refs`: 5 sets the peak to what is resident now.
    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// The process's lines of proc(5), `smaps_rollup`.
    pub fn memory_map(&self) -> String {
        fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap()
    }

    /// Tells it to stop and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    fn memory(&self, field: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin.expect("an admin server")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {text}");
        body.to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking()
            && let Ok(log) = self.log.lock()
        {
            log[log.len().saturating_sub(LAST_LINES)..].iter().for_each(|line| println!("{line}"));
        }
    }
}
