//! What a connection adds to the proxy's memory while it waits.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::alone::Documents;
use crate::figures::{Figure, Metric};
use crate::measure;
use crate::waiting::{ask, is_closed};

use super::{Axis, Bench};

/// After the last answer.
const SETTLE: Duration = Duration::from_millis(200);

/// On a proxy of its own, so that nothing is there from the size before.
pub(super) fn point(bench: &Bench, count: u32) -> Result<BTreeMap<Metric, Figure>> {
    let documents = Documents::new(&Axis::Connections.filling(bench, count)?)?;
    let proxy = bench.setting().start(&documents, &bench.body)?;
    thread::sleep(SETTLE);
    let before = measure::memory(proxy.id())?.resident as f64;
    let mut waiting = Vec::new();
    for number in 1..=count {
        let asked = ask(documents.address(), &bench.body);
        waiting.push(asked.with_context(|| format!("connection {number} of {count}"))?);
    }
    thread::sleep(SETTLE);
    let after = measure::memory(proxy.id())?.resident as f64;
    let closed = waiting.iter().filter(|connection| is_closed(connection)).count();
    ensure!(closed == 0, "{closed} of {count} idle connections were closed");
    let figures = [
        (Metric::KibPerConnection, Figure::of(&[(after - before) / f64::from(count)])),
        (Metric::ResidentMib, Figure::of(&[after / 1024.0])),
    ];
    Ok(figures.into_iter().filter_map(|(metric, figure)| Some((metric, figure?))).collect())
}
