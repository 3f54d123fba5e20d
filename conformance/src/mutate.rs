//! The mutation test: each host call in turn answers Ok and does nothing, and something has to notice: a cell of the table,
//! a case, or the verdict on a hostile guest.
//!
//! The call is taken away on the guest's side: its import becomes a function of the guest's own. So the host stays as it is,
//! and what is tested is the suite. Before that, guests that were taken apart and put together again without a change have to
//! come to what the table says: otherwise whatever is noticed says nothing.

use std::collections::BTreeSet;
use std::fs;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::case::Case;
use crate::guests::Modules;
use crate::host::Host;
use crate::hostile;
use crate::matrix::{self, ABIS, Cell, Way};
use crate::suite::{self, Report};
use crate::table::Table;

/// Mutants at work at one time.
const AT_ONCE: usize = 3;
/// The host has one function for all versions, so taking it from the guests of one is enough.
const NEWEST: &str = "0.2.1";
/// The phase in which unchanged guests have to do as always.
const CONTROL: &str = "request_headers";
/// Cells that are filled before it is looked whether one noticed.
const BATCH: usize = 4;

/// A host call that does nothing for the guests of one ABI version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mutant {
    abi: &'static str,
    function: String,
}

impl Mutant {
    /// The import.
    #[must_use]
    pub fn import(&self) -> String {
        format!("proxy_{}", self.function)
    }

    fn name(&self) -> String {
        format!("mutant/{}/{}", self.abi, self.import())
    }
}

/// All of them: every function that a cell calls, in the newest version that has it.
#[must_use]
pub fn mutants() -> Vec<Mutant> {
    let calls = matrix::cells()
        .into_iter()
        .filter(|cell| !matches!(cell.way(), Way::Trace | Way::Never(_)));
    let all: BTreeSet<Mutant> =
        calls.map(|cell| Mutant { abi: cell.abi, function: function(&cell).to_owned() }).collect();
    let newest: BTreeSet<String> = all
        .iter()
        .filter(|mutant| mutant.abi == NEWEST)
        .map(|mutant| mutant.function.clone())
        .collect();
    let only_older = |mutant: &Mutant| mutant.abi == NEWEST || !newest.contains(&mutant.function);
    all.into_iter().filter(only_older).collect()
}

/// What is to notice.
pub struct Suite<'a> {
    /// Where it runs.
    pub host: &'a Host,
    /// Guests of cells and cases.
    pub modules: &'a Modules,
    /// What cells come to.
    pub table: &'a Table,
    /// All of them.
    pub cases: &'a [Case],
}

/// Runs them; a mutant that nothing notices is a problem. `done` gets each report as it comes.
///
/// # Errors
/// A guest cannot be rewritten.
pub fn run(
    mutants: &[Mutant],
    suite: &Suite,
    done: &(dyn Fn(&Report) + Sync),
) -> Result<Vec<Report>> {
    let controls = ABIS.iter().map(|(abi, guest)| suite.control(abi, guest));
    let controls = controls.collect::<Result<Vec<_>>>()?;
    controls.iter().for_each(done);
    if controls.iter().any(|report| !report.problems.is_empty()) {
        return Ok(controls);
    }
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(controls);
    let work = || -> Result<()> {
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let noticed = suite.cells(mutant)? || suite.cases(mutant)? || suite.hostile(mutant)?;
            let problem = "nothing notices that it does nothing".to_owned();
            let problems = if noticed { Vec::new() } else { vec![problem] };
            let report =
                Report { case: mutant.name(), host: suite.host.name(), problems, first_try: None };
            done(&report);
            reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let working: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        working
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|_| Err(anyhow!("a thread has panicked"))))
            .collect::<Result<Vec<()>>>()
    })?;
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by(|one, other| one.case.cmp(&other.case));
    Ok(reports)
}

impl Suite<'_> {
    /// The cells of one phase with a guest that nothing was taken from.
    fn control(&self, abi: &'static str, guest: &str) -> Result<Report> {
        let folder = tempfile::tempdir()?;
        let module = walrus::Module::from_buffer(&fs::read(
            self.modules.get(guest).context(guest.to_owned())?,
        )?);
        let modules = self.with(guest, &module?.emit_wasm(), &folder)?;
        let mut cells = matrix::cells();
        cells.retain(|cell| cell.abi == abi && cell.phase == CONTROL);
        ensure!(!cells.is_empty(), "no cell of ABI {abi} is in {CONTROL}");
        let results = matrix::fill(self.host, &modules, &cells)?;
        let reports = suite::judge(self.host.name(), results, self.table);
        let problems = reports.into_iter().flat_map(|report| report.problems).collect();
        Ok(Report {
            case: format!("control/{abi}"),
            host: self.host.name(),
            problems,
            first_try: None,
        })
    }

    /// Whether a cell that calls it comes to something else than the table says. A host that the guest cannot start on is
    /// not what the table says either.
    fn cells(&self, mutant: &Mutant) -> Result<bool> {
        let guest = ABIS.iter().find(|(abi, _)| *abi == mutant.abi).context("no such ABI")?.1;
        let folder = tempfile::tempdir()?;
        let modules = self.without(guest, mutant, &folder)?;
        let modules = modules.context("a cell calls what its guest does not import")?;
        // It succeeds: what a call that fails does not do shows nothing.
        let succeeds = |cell: &Cell| {
            let expected = self.table.result(self.host.name(), &cell.name());
            expected.is_some_and(|expected| expected.starts_with('0'))
        };
        let mut cells = matrix::cells();
        cells.retain(|cell| {
            let calls = cell.abi == mutant.abi && function(cell) == mutant.function;
            calls && is_quick(cell) && succeeds(cell)
        });
        for batch in cells.chunks(BATCH) {
            let Ok(results) = matrix::fill(self.host, &modules, batch) else { return Ok(true) };
            let reports = suite::judge(self.host.name(), results, self.table);
            if reports.iter().any(|report| !report.problems.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a case fails that has one guest, which calls it.
    fn cases(&self, mutant: &Mutant) -> Result<bool> {
        for case in self.cases {
            let [filter] = case.filters.as_slice() else { continue };
            let folder = tempfile::tempdir()?;
            let Some(modules) = self.without(&filter.guest, mutant, &folder)? else { continue };
            let hosts = slice::from_ref(self.host);
            let reports = suite::run(slice::from_ref(case), hosts, &modules, &|_| {});
            if reports.iter().any(|report| !report.problems.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the verdict on a hostile guest that calls it is another one.
    fn hostile(&self, mutant: &Mutant) -> Result<bool> {
        let Host::Portcullis(portcullis) = self.host else { return Ok(false) };
        for guest in hostile::load()?.into_iter().filter(|guest| guest.refused.is_none()) {
            let Ok(Some(module)) = without(&guest.module()?, mutant) else { continue };
            let guest = hostile::Guest { instead: Some(module), ..guest };
            let reports = hostile::run(&[guest], portcullis, &|_| {})?;
            if reports.iter().any(|report| !report.problems.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All modules, one of them without the call; `None`: it does not make it, or speaks another ABI.
    fn without(&self, guest: &str, mutant: &Mutant, folder: &TempDir) -> Result<Option<Modules>> {
        let module = fs::read(self.modules.get(guest).context(guest.to_owned())?)?;
        let Some(rewritten) = without(&module, mutant)? else { return Ok(None) };
        self.with(guest, &rewritten, folder).map(Some)
    }

    /// All modules, with another one in place of one guest's.
    fn with(&self, guest: &str, module: &[u8], folder: &TempDir) -> Result<Modules> {
        let path = folder.path().join("rewritten.wasm");
        fs::write(&path, module)?;
        let mut modules = self.modules.clone();
        modules.insert(guest.to_owned(), path);
        Ok(modules)
    }
}

fn function(cell: &Cell) -> &str {
    cell.call.split(':').next().unwrap_or(&cell.call)
}

/// Cells that share a process with others.
fn is_quick(cell: &Cell) -> bool {
    !matches!(cell.way(), Way::Trace | Way::Alone | Way::Never(_))
}

/// The module with a function of its own in place of the import: it returns zeros. `None`: the module does not import it, or
/// speaks another ABI.
///
/// # Errors
/// It is no module.
fn without(module: &[u8], mutant: &Mutant) -> Result<Option<Vec<u8>>> {
    let mut module = walrus::Module::from_buffer(module)?;
    let marker = format!("proxy_abi_version_{}", mutant.abi.replace('.', "_"));
    let speaks = module.exports.iter().any(|export| export.name == marker);
    let Ok(function) = module.imports.get_func("env", mutant.import()) else { return Ok(None) };
    if !speaks {
        return Ok(None);
    }
    let results = module.types.get(module.funcs.get(function).ty()).results().len();
    module.replace_imported_func(function, |(body, _)| {
        for _ in 0..results {
            body.i32_const(0);
        }
    })?;
    Ok(Some(module.emit_wasm()))
}
