//! wrk: HTTP/1.1, closed loop, one thread.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Ask, Sample, Target};

pub(super) fn fill(
    command: &mut Command,
    target: &Target,
    seconds: u32,
    folder: &Path,
) -> Result<()> {
    let scenario = target.scenario;
    fill_amount(command, scenario.connections, seconds);
    if scenario.close {
        command.args(["--header", "connection: close"]);
    }
    let paths = scenario.paths();
    if paths.len() > 1 {
        let asks: Vec<Ask> = paths.iter().map(|path| Ask::path(path)).collect();
        fill_in_turn(command, &asks, folder)?;
    }
    command.arg(target.url(paths.first().map_or("/", |path| path)));
    Ok(())
}

pub(super) fn fill_amount(command: &mut Command, connections: u32, seconds: u32) {
    command.args(["--threads", "1", "--latency", "--timeout", "10s"]);
    command.args(["--connections", &connections.to_string()]);
    command.args(["--duration", &format!("{seconds}s")]);
}

pub(super) fn fill_in_turn(command: &mut Command, asks: &[Ask], folder: &Path) -> Result<()> {
    let file = folder.join("asks.lua");
    fs::write(&file, in_turn(asks))?;
    command.arg("--script").arg(file);
    Ok(())
}

/// Requests are written down once, so that taking the next one costs nothing.
fn in_turn(asks: &[Ask]) -> String {
    let mut script = String::from("local requests, at = {}, 0\nfunction init(args)\n");
    for Ask { host, path } in asks {
        let host = host.as_ref().map(|host| format!(", {{Host = \"{host}\"}}"));
        let host = host.unwrap_or_default();
        let _infallible =
            writeln!(script, "  table.insert(requests, wrk.format(\"GET\", \"{path}\"{host}))");
    }
    script.push_str("end\nfunction request()\n  at = at % #requests + 1\n");
    script.push_str("  return requests[at]\nend\n");
    script
}

/// Reads its report.
///
/// # Errors
/// It says something else.
pub fn read(text: &str) -> Result<Sample> {
    let lines = || text.lines().map(str::trim);
    let summary = lines().find_map(|line| line.split_once(" requests in "));
    let (requests, rest) = summary.with_context(|| format!("no count in {text}"))?;
    let percentile = |name: &str| {
        let line = lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| seconds(rest.trim())).with_context(|| format!("no {name} in {text}"))
    };
    let errors = lines().find_map(|line| line.strip_prefix("Socket errors: "));
    let errors = errors.unwrap_or_default().split(", ");
    let errors = errors.filter_map(|error| error.rsplit_once(' ')?.1.parse::<u64>().ok());
    let refused = lines().find_map(|line| line.strip_prefix("Non-2xx or 3xx responses: "));
    let refused = refused.map_or(Ok(0), str::parse::<u64>)?;
    let took = rest.split(',').next().and_then(seconds);
    Ok(Sample {
        requests: requests.parse()?,
        failures: errors.sum::<u64>() + refused,
        seconds: took.with_context(|| format!("no duration in {rest}"))?,
        p50: percentile("50%")? * 1e6,
        p99: percentile("99%")? * 1e6,
    })
}

/// `1.20ms` and the like.
fn seconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (number, unit) = units
        .into_iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?.parse::<f64>().ok()?, scale)))?;
    Some(number * unit)
}
