//! Runs cases on hosts, several at once, and collects the verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use serde::Serialize;

use crate::case::{Case, HostName};
use crate::differences::Differences;
use crate::guests::Modules;
use crate::host::Host;
use crate::matrix::{self, Cell, Results};
use crate::play::play;
use crate::table::Table;
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
    /// What was not at the first of two tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_try: Option<Vec<String>>,
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
    Report { case: case.name.clone(), host: host.name(), problems, first_try: None }
}

/// Fills cells on all hosts, at the same time.
///
/// # Errors
/// A host cannot be started.
pub fn fill(
    hosts: &[Host],
    cells: &[Cell],
    modules: &Modules,
) -> Result<BTreeMap<HostName, Results>> {
    thread::scope(|scope| {
        let filling: Vec<_> = hosts
            .iter()
            .map(|host| (host.name(), scope.spawn(|| matrix::fill(host, modules, cells))))
            .collect();
        let mut filled = BTreeMap::new();
        for (host, thread) in filling {
            let results = thread.join().unwrap_or_else(|_| Err(anyhow!("a thread has panicked")));
            filled.insert(host, results?);
        }
        Ok(filled)
    })
}

/// What is committed in the table is what is expected.
#[must_use]
pub fn judge(host: HostName, results: Results, table: &Table) -> Vec<Report> {
    let report = |(case, result): (String, String)| {
        let expected = table.result(host, &case).unwrap_or("not in TABLE.md");
        let problem = (expected != result).then(|| format!("{result}, not {expected}"));
        Report { case, host, problems: problem.into_iter().collect(), first_try: None }
    };
    results.into_iter().map(report).collect()
}

/// More failures than this are no accident, and stand.
const ACCIDENTS: usize = 8;

/// What failed on the reference host is tried once more: some cells race with its timers, which are not what is tested. Our own
/// host has one try. What passes only then keeps what was wrong at first, for everybody to see.
///
/// # Errors
/// Those of `again`.
pub fn once_more(
    reports: &mut [Report],
    host: HostName,
    again: impl FnOnce(&dyn Fn(&str) -> bool) -> Result<Vec<Report>>,
) -> Result<()> {
    let failed: BTreeSet<String> = reports
        .iter()
        .filter(|report| report.host == host && !report.problems.is_empty())
        .map(|report| report.case.clone())
        .collect();
    if failed.is_empty() || failed.len() > ACCIDENTS {
        return Ok(());
    }
    for mut second in again(&|case| failed.contains(case))? {
        let known =
            reports.iter_mut().find(|report| (report.host, &report.case) == (host, &second.case));
        if let Some(first) = known {
            second.first_try = Some(std::mem::take(&mut first.problems));
            *first = second;
        }
    }
    Ok(())
}

/// Entries of DIFFERENCES.md that neither a case nor a cell needs. Those about h2spec are judged where that runs.
#[must_use]
pub fn idle(cases: &[Case], table: &Table, differences: &Differences) -> Vec<String> {
    let mut used: BTreeSet<&str> = cases.iter().flat_map(Case::entries).collect();
    used.extend(table.differing().into_iter().filter_map(|cell| differences.of_cell(cell)));
    used.extend(differences.about("h2spec/"));
    differences.idle(&used).into_iter().map(str::to_owned).collect()
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
