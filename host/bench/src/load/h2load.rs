//! h2load: HTTP/2 in the clear, closed loop, one thread. Percentiles come from its log of all requests.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Sample, Target};

/// Streams in flight on each connection.
const STREAMS: u32 = 8;

pub(super) fn fill(command: &mut Command, target: &Target, seconds: u32, log: &Path) {
    let scenario = target.scenario;
    let connections = (scenario.connections / STREAMS).max(1);
    command.args(["--threads=1", &format!("--duration={seconds}")]);
    command.arg(format!("--clients={connections}"));
    command.arg(format!("--max-concurrent-streams={STREAMS}"));
    command.arg(format!("--log-file={}", log.display()));
    command.arg(target.url(&scenario.path));
}

/// Reads its report, and its log: in each line when the request began, its status, and how many microseconds it took.
///
/// # Errors
/// They say something else.
pub fn read(text: &str, log: &str) -> Result<Sample> {
    let counts = text.lines().find_map(|line| line.strip_prefix("requests: "));
    let counts = counts.with_context(|| format!("no count in {text}"))?;
    let count = |name: &str| {
        let entry = counts.split(", ").find_map(|entry| entry.strip_suffix(name));
        entry
            .and_then(|number| number.trim().parse::<u64>().ok())
            .with_context(|| format!("no {name} in {counts}"))
    };
    let took = text.lines().find_map(|line| line.strip_prefix("finished in "));
    let took = took.and_then(|rest| rest.split("s,").next()?.parse::<f64>().ok());
    let mut latencies: Vec<u32> = log.lines().filter_map(latency).collect();
    latencies.sort_unstable();
    let percentile = |part: usize| latencies.get(latencies.len() * part / 100).copied();
    Ok(Sample {
        requests: count(" done")?,
        failures: count(" done")? - count(" succeeded")? + count(" errored")?,
        seconds: took.with_context(|| format!("no duration in {text}"))?,
        p50: percentile(50).context("an empty log")?.into(),
        p99: percentile(99).context("an empty log")?.into(),
    })
}

fn latency(line: &str) -> Option<u32> {
    line.split('\t').nth(2)?.trim().parse().ok()
}
