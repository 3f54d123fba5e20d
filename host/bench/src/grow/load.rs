//! What a request costs, with so many routes, filters or endpoints.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::alone::{Alone, Documents};
use crate::figures::{Figure, Metric};
use crate::load::Sample;
use crate::measure;
use crate::proof::{Counts, agree};

use super::{Axis, Bench};

const CONNECTIONS: u32 = 64;
/// When a round begins, and when it ends.
const UNDER_WAY: u64 = 2 * CONNECTIONS as u64;
/// As long as 10 000 endpoints take to be dialled.
const WARM_UP_SECONDS: u32 = 2;
/// What was under way when the generator ended is over after this.
const SETTLE: Duration = Duration::from_millis(50);

pub(super) fn point(bench: &Bench, axis: Axis, count: u32) -> Result<BTreeMap<Metric, Figure>> {
    let filling = axis.filling(bench, count)?;
    if axis == Axis::Filters && count == 1 {
        // The first start compiles; every other one finds what it has kept.
        bench.setting().start(&Documents::new(&filling)?, &bench.body)?;
    }
    let documents = Documents::new(&filling)?;
    let start = || bench.setting().start(&documents, &bench.body);
    let starts = (0..bench.rounds).map(|_| Ok(start()?.start.as_secs_f64() * 1e3));
    let starts: Vec<f64> = starts.collect::<Result<_>>()?;
    let proxy = start()?;
    let asks = axis.asks(count);
    let load = |seconds| bench.generators.in_turn(documents.address(), &asks, CONNECTIONS, seconds);
    answered(&load(WARM_UP_SECONDS)?)?;
    thread::sleep(SETTLE);
    let costs = (0..bench.rounds).map(|_| round(bench, &proxy, &load));
    let costs: Vec<f64> = costs.collect::<Result<_>>()?;
    let resident = measure::memory(proxy.id())?.resident as f64 / 1024.0;
    let figures = [
        (Metric::CpuUsPerRequest, Figure::of(&costs)),
        (Metric::StartMs, Figure::of(&starts)),
        (Metric::ResidentMib, Figure::of(&[resident])),
    ];
    Ok(figures.into_iter().filter_map(|(metric, figure)| Some((metric, figure?))).collect())
}

/// Microseconds of CPU time for a request, in one round.
fn round(bench: &Bench, proxy: &Alone, load: &dyn Fn(u32) -> Result<Sample>) -> Result<f64> {
    let counted = (proxy.requests()?, bench.upstream.requests()?);
    let before = measure::cpu(proxy.id())?;
    let sample = load(bench.seconds)?;
    thread::sleep(SETTLE);
    let spent = measure::cpu(proxy.id())?.saturating_sub(before);
    answered(&sample)?;
    agree(&Counts {
        clients: sample.requests,
        proxy: proxy.requests()? - counted.0,
        upstream: bench.upstream.requests()? - counted.1,
        upstream_each: 1,
        filters: None,
        filters_each: 0,
        in_flight: UNDER_WAY,
    })?;
    Ok(spent.as_secs_f64() * 1e6 / sample.requests as f64)
}

fn answered(sample: &Sample) -> Result<()> {
    let Sample { failures, requests, .. } = sample;
    ensure!(*failures == 0, "{failures} requests failed, {requests} were answered");
    ensure!(*requests > 0, "no request was answered");
    Ok(())
}
