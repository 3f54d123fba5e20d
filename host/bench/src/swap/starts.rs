//! From a start to the first answer of the upstream, through five small filters.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::alone::{Documents, Setting, plainest, small_filters};
use crate::place;
use crate::scenario::Speech;

use super::Bench;
use super::result::{Mark, Times};

const FILTERS: u32 = 5;

/// With filters that were compiled before.
pub(super) fn prepared(bench: &Bench, count: u32, say: &mut dyn FnMut(&str)) -> Result<Times> {
    start(bench, &bench.cache())?;
    ensure!(bench.cache().read_dir()?.next().is_some(), "it keeps no compiled module");
    let mut millis = Vec::new();
    for _ in 0..count {
        millis.push(start(bench, &bench.cache())?);
    }
    let what = "start to first answer, five filters, compiled before";
    Ok(Times::tell(what, Some(Mark(30.0)), millis, say))
}

/// With nothing compiled.
pub(super) fn cold(bench: &Bench, count: u32, say: &mut dyn FnMut(&str)) -> Result<Times> {
    let mut millis = Vec::new();
    for _ in 0..count {
        let nothing = tempfile::tempdir()?;
        millis.push(start(bench, &nothing.path().join("cache"))?);
    }
    Ok(Times::tell("the same, nothing compiled", None, millis, say))
}

fn start(bench: &Bench, cache: &Path) -> Result<f64> {
    let mut filling = plainest(1, bench.upstream.address(Speech::Http1));
    filling.list("filter", small_filters(&bench.small, FILTERS)?);
    let documents = Documents::new(&filling)?;
    let setting = Setting { program: &bench.program, cache, cores: place::ALL_CORES };
    Ok(setting.start(&documents, &bench.body)?.start.as_secs_f64() * 1e3)
}
