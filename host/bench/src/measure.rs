//! What a proxy's processes have used, from `/proc`: CPU time to the nanosecond, resident memory. All of its threads and children count.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Resident memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it, in KiB.
    pub resident: u64,
    /// The part that are pages of files.
    pub file: u64,
}

/// CPU time of a process and its children so far, in user and in kernel mode: the first number of `schedstat` of every thread.
///
/// # Errors
/// The process has ended, or the kernel keeps no such account.
pub fn cpu(root: u32) -> Result<Duration> {
    let mut total = 0;
    for process in tree(root)? {
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            let file = task?.path().join("schedstat");
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let spent = text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok());
            total += spent.with_context(|| format!("{}: {text}", file.display()))?;
        }
    }
    Ok(Duration::from_nanos(total))
}

/// What a core has done so far but idle, for whomever; to the hundredth of a second.
///
/// # Errors
/// There is no such core.
pub fn busy(core: &str) -> Result<Duration> {
    let all = fs::read_to_string("/proc/stat")?;
    busy_in(&all, core).with_context(|| format!("no core {core} in /proc/stat"))
}

/// The same, from the text of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal, in hundredths; proc(5).
#[must_use]
pub fn busy_in(text: &str, core: &str) -> Option<Duration> {
    let name = format!("cpu{core} ");
    let fields = text.lines().find_map(|line| line.strip_prefix(&name))?.split_whitespace();
    let fields: Option<Vec<u64>> = fields.take(8).map(|field| field.parse().ok()).collect();
    let hundredths = match fields?[..] {
        [user, nice, system, _idle, _waiting, irq, softirq, steal] => {
            user + nice + system + irq + softirq + steal
        }
        _ => return None,
    };
    Some(Duration::from_millis(hundredths * 10))
}

/// Resident memory of a process and its children; pages that they share count for each.
///
/// # Errors
/// The process has ended.
pub fn memory(root: u32) -> Result<Memory> {
    let mut total = Memory::default();
    for process in tree(root)? {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .with_context(|| format!("no {name} in the status of {process}"))
        };
        total.resident += field("VmRSS:")?;
        total.file += field("RssFile:")?;
    }
    Ok(total)
}

fn tree(root: u32) -> Result<Vec<u32>> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(process) = found.get(at).copied() {
        for task in fs::read_dir(format!("/proc/{process}/task")).context("it has ended")? {
            let children = fs::read_to_string(task?.path().join("children"))?;
            found.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
        at += 1;
    }
    Ok(found)
}
