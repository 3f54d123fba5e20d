//! Where modules get compiled: in a process of their own where there is one to be had, here otherwise. The log and the
//! status say which.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use portcullis_vm::{Cache, Engine, LoadError, Module};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::compiler::{Compiler, Failure};
use crate::memory;
use crate::plan::ModuleError;

/// Brings modules to life from their bytes.
pub(super) struct Workshop {
    engine: Engine,
    cache: Option<Cache>,
    outside: Option<Outside>,
    tally: Tally,
}

/// Where another process compiles to.
struct Outside {
    compiler: Compiler,
    cache: Cache,
    /// Holds that folder where there is none to keep.
    _passing: Option<TempDir>,
}

#[derive(Default)]
struct Tally {
    cached: AtomicU64,
    outside: AtomicU64,
    inside: AtomicU64,
    refused: AtomicU64,
}

impl Workshop {
    /// Compiles in this process.
    pub(super) fn new(engine: Engine, cache: Option<Cache>) -> Workshop {
        Workshop { engine, cache, outside: None, tally: Tally::default() }
    }

    /// Has a process of its own compile, where there is a folder for what it makes.
    pub(super) fn with(mut self, compiler: Compiler) -> Workshop {
        let folder = match &self.cache {
            Some(cache) => Ok((cache.clone(), None)),
            None => passing_folder().map(|(cache, folder)| (cache, Some(folder))),
        };
        match folder {
            Ok((cache, passing)) => {
                self.outside = Some(Outside { compiler, cache, _passing: passing });
            }
            Err(problem) => tracing::warn!(problem, "modules are compiled in this process"),
        }
        self
    }

    /// What was compiled before, or else compiled now. Takes long.
    pub(super) fn module(&self, bytes: &[u8]) -> Result<Module, ModuleError> {
        let started = Instant::now();
        let (module, by, counter) =
            self.bring(bytes).inspect_err(|_| count(&self.tally.refused))?;
        memory::release();
        count(counter);
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(module = %module.digest(), by, took_ms, "module ready");
        Ok(module)
    }

    /// Modules brought so far, by where their code came from.
    pub(super) fn status(&self) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "own_process": self.outside.is_some(),
            "cached_total": read(&self.tally.cached),
            "compiled_total": read(&self.tally.outside) + read(&self.tally.inside),
            "compiled_in_this_process_total": read(&self.tally.inside),
            "refused_total": read(&self.tally.refused),
        })
    }

    fn bring(&self, bytes: &[u8]) -> Result<(Module, &'static str, &AtomicU64), ModuleError> {
        let tally = &self.tally;
        if let Some(outside) = &self.outside {
            let find = || Module::find(&self.engine, bytes, &outside.cache);
            if let Some(module) = find()? {
                return Ok((module, "the cache", &tally.cached));
            }
            let problem = match outside.compiler.compile(bytes, outside.cache.folder()) {
                Ok(()) => match find()? {
                    Some(module) => return Ok((module, "a compiling process", &tally.outside)),
                    None => "it left nothing that can be used".to_owned(),
                },
                Err(Failure::Unfit(problem)) => return Err(LoadError::Compile(problem).into()),
                Err(Failure::Died(problem)) => return Err(ModuleError::Compiler { problem }),
                Err(Failure::Unable(problem)) => problem,
            };
            tracing::warn!(problem, "no compiling process: a module is compiled in this one");
        }
        let module = Module::load(&self.engine, bytes, self.cache.as_ref())?;
        match module.from_cache() {
            true => Ok((module, "the cache", &tally.cached)),
            false => Ok((module, "this process", &tally.inside)),
        }
    }
}

/// A folder that goes when the process ends.
fn passing_folder() -> Result<(Cache, TempDir), String> {
    let ours = Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix("portcullis-").permissions(ours).tempdir();
    let folder = folder.map_err(|problem| problem.to_string())?;
    let cache = Cache::open(folder.path()).map_err(|problem| problem.to_string())?;
    Ok((cache, folder))
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
