//! oha: open loop at a fixed rate, with latencies from when a request was due; and what needs a client certificate.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Sample, Target};
use crate::scenario::{Load, Speech};

pub(super) fn fill(command: &mut Command, target: &Target, load: Load, seconds: u32) {
    let scenario = target.scenario;
    command.args(["--no-tui", "--output-format", "json", "--wait-ongoing-requests-after-deadline"]);
    command.args(["-z", &format!("{seconds}s"), "-c", &scenario.connections.to_string()]);
    if let Load::Rate(rate) = load {
        command.args(["-q", &rate.to_string(), "--latency-correction"]);
    }
    if scenario.close {
        command.arg("--disable-keepalive");
    }
    if scenario.client == Speech::Http2 {
        command.arg("--http2");
    }
    let file = |name: &str| target.certificates.join(name);
    if matches!(scenario.client, Speech::Tls | Speech::Mtls) {
        command.arg("--cacert").arg(file("ca.pem"));
    }
    if scenario.client == Speech::Mtls {
        command.arg("--cert").arg(file("client.pem")).arg("--key").arg(file("client.pem.key"));
    }
    command.arg(target.url(&scenario.path));
}

/// Reads its report.
///
/// # Errors
/// It says something else.
pub fn read(text: &str) -> Result<Sample> {
    let report: Value = serde_json::from_str(text).with_context(|| text.to_owned())?;
    let counts = |name: &str| -> Vec<(String, u64)> {
        let entries = report[name].as_object().into_iter().flatten();
        entries.filter_map(|(key, count)| Some((key.clone(), count.as_u64()?))).collect()
    };
    let number = |pointer: &str| {
        let found = report.pointer(pointer).and_then(Value::as_f64);
        found.with_context(|| format!("no {pointer} in {text}"))
    };
    let statuses = counts("statusCodeDistribution");
    let refused = statuses.iter().filter(|(status, _)| !status.starts_with('2'));
    let failed: u64 = counts("errorDistribution").iter().map(|(_, count)| count).sum();
    Ok(Sample {
        requests: statuses.iter().map(|(_, count)| count).sum(),
        failures: refused.map(|(_, count)| count).sum::<u64>() + failed,
        seconds: number("/summary/total")?,
        p50: number("/latencyPercentiles/p50")? * 1e6,
        p99: number("/latencyPercentiles/p99")? * 1e6,
    })
}
