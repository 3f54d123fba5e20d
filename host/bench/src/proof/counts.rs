//! The same requests were counted by everybody.

use anyhow::{Result, ensure};

/// How far two counts may lie apart, as a part of them.
const APART: f64 = 0.001;
/// Filters of `guests/` tell of every 32nd request only.
const TALLY: u64 = 32;

/// Requests of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Responses that generator and probes had.
    pub clients: u64,
    /// Requests that the proxy counted.
    pub proxy: u64,
    /// Requests that the upstream counted.
    pub upstream: u64,
    /// How many of these a request of a client makes.
    pub upstream_each: u64,
    /// What the filters counted, all together.
    pub filters: Option<u64>,
    /// How many filters did.
    pub filters_each: u64,
    /// Requests that may have been under way when the round began or ended.
    pub in_flight: u64,
}

/// Refuses counts that lie apart by more than a thousandth and what was under way.
///
/// # Errors
/// Says which.
pub fn agree(counts: &Counts) -> Result<()> {
    let slack = (counts.clients as f64 * APART) as u64 + counts.in_flight;
    near("the proxy", counts.proxy, counts.clients, slack)?;
    let each = counts.upstream_each;
    near("the upstream", counts.upstream, counts.clients * each, slack * each)?;
    let Some(filters) = counts.filters else { return Ok(()) };
    let each = counts.filters_each;
    near("the filters", filters, counts.clients * each, (slack + TALLY) * each)
}

fn near(who: &str, counted: u64, expected: u64, slack: u64) -> Result<()> {
    ensure!(
        counted.abs_diff(expected) <= slack,
        "by the responses that clients had, {who} should have counted {expected} (±{slack}) requests, but counted {counted}"
    );
    Ok(())
}
