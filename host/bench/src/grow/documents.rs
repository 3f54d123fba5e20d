//! How long it takes to check, to serve and to change one of many documents.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::alone::{Documents, Form};
use crate::figures::{Figure, Metric};
use crate::measure;
use crate::traffic::Traffic;

use super::axis::host;
use super::{Axis, Bench};

/// The one that changes; it serves whom the probes ask for.
const CHANGING: (&str, &str) = ("changing.yaml", "localhost");
const CONNECTIONS: usize = 4;

pub(super) fn point(bench: &Bench, count: u32) -> Result<BTreeMap<Metric, Figure>> {
    let form = Form::read("document.yaml")?;
    let documents = Documents::new(&Axis::Documents.filling(bench, count)?)?;
    let (file, name) = CHANGING;
    documents.replace(file, &form.with(&[("host", name), ("release", "0")])?)?;
    for number in 2..=count {
        let host = host(number);
        let text = form.with(&[("host", &host), ("release", "0")])?;
        documents.replace(&format!("{host}.yaml"), &text)?;
    }
    let millis = |taken: std::time::Duration| taken.as_secs_f64() * 1e3;
    let setting = bench.setting();
    let mut numbers: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
    for _ in 0..bench.rounds {
        numbers.entry(Metric::CheckMs).or_default().push(millis(setting.check(&documents)?));
        let proxy = setting.start(&documents, &bench.body)?;
        numbers.entry(Metric::StartMs).or_default().push(millis(proxy.start));
    }
    let proxy = setting.start(&documents, &bench.body)?;
    let mut traffic = Traffic::start(documents.address(), CONNECTIONS)?;
    traffic.until_everywhere(0)?;
    for release in 1..=bench.rounds {
        let text = form.with(&[("host", name), ("release", &release.to_string())])?;
        let begun = Instant::now();
        documents.replace(file, &text)?;
        let taken = traffic.until_everywhere(release)? - begun;
        numbers.entry(Metric::ReloadMs).or_default().push(millis(taken));
    }
    let tally = traffic.finish()?;
    let first = tally.first_failure.unwrap_or_default();
    ensure!(tally.failures == 0, "{} requests failed, the first: {first}", tally.failures);
    let resident = measure::memory(proxy.id())?.resident as f64 / 1024.0;
    numbers.insert(Metric::ResidentMib, vec![resident]);
    let figure = |(metric, numbers): (Metric, Vec<f64>)| Some((metric, Figure::of(&numbers)?));
    Ok(numbers.into_iter().filter_map(figure).collect())
}
