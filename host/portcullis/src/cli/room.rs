//! How much memory the container of this process has left, as the kernel counts it for cgroup v2.
//!
//! Kubernetes has the kernel end everything in a container that is full: whoever needs an unknown amount has to stop before.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// A limit, and what is left of it, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub limit: u64,
    pub left: u64,
}

/// The control group of this process.
pub fn own() -> PathBuf {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let own = Path::new(ROOT).join(path);
    // In a container its own group may be all that can be seen, whatever it is called outside.
    if own.join("memory.max").exists() { own } else { ROOT.into() }
}

/// Of the control group in `folder`; `None`: nothing limits it.
pub fn room(folder: &Path) -> Option<Room> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let limit = read("memory.max")?.trim().parse().ok()?;
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    // Files that nobody has looked at for a while go first; nobody is ended for them.
    let idle = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let idle: u64 = idle.and_then(|idle| idle.trim().parse().ok()).unwrap_or_default();
    Some(Room { limit, left: limit.saturating_sub(used.saturating_sub(idle)) })
}
