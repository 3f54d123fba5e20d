//! A filter that is replaced under load, again and again, on a proxy with two workers.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::alone::{Alone, Documents, Form, Setting, plainest};
use crate::measure;
use crate::place;
use crate::scenario::Speech;
use crate::traffic::{Tally, Traffic};

use super::result::{Mark, Times};
use super::{Bench, Plan};

const WORKERS: u32 = 2;
/// Enough that no worker goes without.
const CONNECTIONS: usize = 16;
/// Memory is read that often.
const READINGS: u32 = 10;
/// The generation before is gone after this.
const SETTLE: Duration = Duration::from_millis(300);

pub(super) struct Changed {
    pub(super) times: Vec<Times>,
    /// After so many changes, MiB.
    pub(super) memory: Vec<(u32, f64)>,
    pub(super) tally: Tally,
}

/// The modules that take turns: the same filter, each with bytes of its own.
struct Releases {
    folder: TempDir,
    form: Form,
    count: u32,
}

pub(super) fn run(bench: &Bench, plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Changed> {
    let releases = Releases::write(bench, plan.repetitions)?;
    let documents = Documents::new(&plainest(WORKERS, bench.upstream.address(Speech::Http1)))?;
    let cache = bench.cache();
    let setting = Setting { program: &bench.program, cache: &cache, cores: place::ALL_CORES };
    let proxy = setting.start(&documents, &bench.body)?;
    let mut traffic = Traffic::start(documents.address(), CONNECTIONS)?;
    let done = sequence(&releases, plan, &documents, &proxy, &mut traffic, say);
    let tally = traffic.finish()?;
    let first = tally.first_failure.as_deref().unwrap_or("no request failed");
    let (times, memory) = done.with_context(|| {
        format!("{} requests failed ({first}); it said\n{}", tally.failures, proxy.last_lines())
    })?;
    Ok(Changed { times, memory, tally })
}

type Measured = (Vec<Times>, Vec<(u32, f64)>);

fn sequence(
    releases: &Releases,
    plan: &Plan,
    documents: &Documents,
    proxy: &Alone,
    traffic: &mut Traffic,
    say: &mut dyn FnMut(&str),
) -> Result<Measured> {
    let compiled = (1..=releases.count).map(|number| {
        thread::sleep(SETTLE);
        releases.publish(number, documents, traffic)
    });
    let what = "changed module to its first answer on every worker, with compilation";
    let compiled = Times::tell(what, Some(Mark(300.0)), compiled.collect::<Result<_>>()?, say);
    let mut memory = vec![(0, resident(proxy)?)];
    let mut millis = Vec::new();
    for number in 1..=plan.changes {
        // Never the one that is live: the last compiled is followed by the first.
        millis.push(releases.publish((number - 1) % releases.count + 1, documents, traffic)?);
        if number % (plan.changes / READINGS) == 0 {
            memory.push((number, resident(proxy)?));
            say(&format!("{number} changes: {:.1} MiB", memory[memory.len() - 1].1));
        }
    }
    let kept = Times::tell("the same, from the cache", Some(Mark(30.0)), millis, say);
    Ok((vec![compiled, kept], memory))
}

fn resident(proxy: &Alone) -> Result<f64> {
    thread::sleep(SETTLE);
    Ok(measure::memory(proxy.id())?.resident as f64 / 1024.0)
}

impl Releases {
    fn write(bench: &Bench, count: u32) -> Result<Releases> {
        let folder = tempfile::tempdir()?;
        let module = fs::read(&bench.release)?;
        for number in 1..=count {
            let bytes = [&module[..], &custom_section(number)].concat();
            fs::write(folder.path().join(format!("{number}.wasm")), bytes)?;
        }
        Ok(Releases { folder, form: Form::read("release.yaml")?, count })
    }

    fn module(&self, number: u32) -> PathBuf {
        self.folder.path().join(format!("{number}.wasm"))
    }

    /// Milliseconds from the changed document to the last connection's first answer by it.
    fn publish(&self, number: u32, documents: &Documents, traffic: &mut Traffic) -> Result<f64> {
        let (module, release) = (self.module(number), number.to_string());
        let words = [("module", &*module.to_string_lossy()), ("release", &*release)];
        let text = self.form.with(&words)?;
        let begun = Instant::now();
        documents.replace("release.yaml", &text)?;
        let everywhere = traffic.until_everywhere(number)?;
        Ok((everywhere - begun).as_secs_f64() * 1e3)
    }
}

/// A custom section of WebAssembly (id 0, size, name, bytes): it changes nothing but the module's digest.
fn custom_section(number: u32) -> Vec<u8> {
    let name = b"release";
    let mut inside = vec![name.len() as u8];
    inside.extend_from_slice(name);
    inside.extend_from_slice(&number.to_le_bytes());
    let mut section = vec![0, inside.len() as u8];
    section.extend(inside);
    section
}
