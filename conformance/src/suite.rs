//! Runs cases on hosts, several at once, and collects the verdicts.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::case::{Case, HostName};
use crate::differences::Differences;
use crate::guests::Modules;
use crate::host::Host;
use crate::play::play;
use crate::verdict::problems;

/// Cases at work at one time; they mostly wait.
const AT_ONCE: usize = 4;

/// A case on a host.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub case: String,
    /// Where.
    pub host: HostName,
    /// What is not as it says; nothing: it passes.
    pub problems: Vec<String>,
}

/// Runs every case on every host that it is for; reports in the order of the cases. `done` gets each as it comes.
pub fn run(
    cases: &[Case],
    hosts: &[Host],
    modules: &Modules,
    done: &(dyn Fn(&Report) + Sync),
) -> Vec<Report> {
    let jobs: Vec<(&Case, &Host)> = cases
        .iter()
        .flat_map(|case| hosts.iter().map(move |host| (case, host)))
        .filter(|(case, host)| case.only.as_ref().is_none_or(|only| only.host == host.name()))
        .collect();
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(jobs.len()) {
            scope.spawn(|| {
                while let Some((at, (case, host))) = take(&next, &jobs) {
                    let report = one(case, host, modules);
                    done(&report);
                    reports.lock().unwrap_or_else(PoisonError::into_inner).push((at, report));
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by_key(|(at, _)| *at);
    reports.into_iter().map(|(_, report)| report).collect()
}

fn take<'a, T>(next: &AtomicUsize, jobs: &'a [T]) -> Option<(usize, &'a T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    Some((at, jobs.get(at)?))
}

fn one(case: &Case, host: &Host, modules: &Modules) -> Report {
    let expected = case.on(host.name());
    let problems = match play(&expected, host, modules) {
        Ok(played) => problems(&expected, &played),
        Err(error) => vec![format!("{error:#}")],
    };
    Report { case: case.name.clone(), host: host.name(), problems }
}

/// Refuses cases that lean on entries that are not there. What no case leans on is for the caller to judge.
///
/// # Errors
/// Names them.
pub fn all_explained(cases: &[Case], differences: &Differences) -> Result<()> {
    let named: BTreeSet<&str> = cases.iter().flat_map(Case::entries).collect();
    let missing: Vec<&&str> = named.iter().filter(|name| !differences.has(name)).collect();
    ensure!(missing.is_empty(), "not in DIFFERENCES.md: {missing:?}");
    Ok(())
}
