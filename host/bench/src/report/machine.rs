//! Where a run took place, and with which versions.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// A machine and what ran on it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    /// The CPU's name.
    pub cpu: String,
    /// How many cores.
    pub cores: usize,
    /// Its kernel.
    pub kernel: String,
    /// The day.
    pub date: String,
    /// A line for each program.
    pub versions: Vec<String>,
}

impl Machine {
    /// This one, today.
    #[must_use]
    pub fn here(versions: Vec<String>) -> Machine {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            cpus.lines().find(|line| line.starts_with(name))?.split_once(": ").map(|(_, text)| text)
        };
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let date = Command::new("date").arg("+%F").output().map(|date| date.stdout);
        Machine {
            cpu: field("model name").unwrap_or("unknown").to_owned(),
            cores: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: kernel.trim().to_owned(),
            date: String::from_utf8_lossy(&date.unwrap_or_default()).trim().to_owned(),
            versions,
        }
    }
}
