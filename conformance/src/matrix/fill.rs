//! Has the probe fill cells on one host: few processes, many cells in each.
//!
//! A cell's result is what the probe logged for it, and whatever was unusual about the exchange that it was filled in.

use std::collections::BTreeMap;
use std::thread;

use anyhow::{Context as _, Result, anyhow};

use super::phases::Way;
use super::stage::{NO_LINE, Stage, text};
use super::{ABIS, Cell, trace};
use crate::case::{FailStrategy, FilterType};
use crate::guests::Modules;
use crate::host::{Host, Line, Plugin};

/// What came of cells, by their names.
pub type Results = BTreeMap<String, String>;

/// Processes at one time, for cells that need one each.
const AT_ONCE: usize = 4;
/// Calls that a host may not survive; after each it is asked whether it did.
const FATAL: [&str; 3] = ["continue_", "close_stream", "send_local_response"];
const NOT_CALLED: &str = "not called";
const NO_START: &str = "the host does not start";

/// Fills cells.
///
/// # Errors
/// The host cannot be started, or ends by itself.
pub fn fill(host: &Host, modules: &Modules, cells: &[Cell]) -> Result<Results> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut results = Results::new();
    for (abi, guest) in ABIS {
        let of = |ways: &[Way]| -> Vec<&Cell> {
            cells.iter().filter(|cell| cell.abi == abi && ways.contains(&cell.way())).collect()
        };
        let probe = Probe { host, guest, modules, kind: FilterType::Http };
        let connected = Probe { kind: FilterType::Network, ..probe };
        if !of(&[Way::Trace]).is_empty() {
            let mut lines = runtime.block_on(probe.trace())?;
            lines.extend(runtime.block_on(connected.trace())?);
            results.extend(trace::results(abi, &lines));
        }
        results.extend(runtime.block_on(probe.plugin(of(&[Way::Plugin])))?);
        let exchanges = of(&[Way::Exchange, Way::NextExchange]);
        results.extend(runtime.block_on(probe.one_by_one(&exchanges))?);
        let connections = of(&[Way::Connection, Way::NextConnection]);
        results.extend(runtime.block_on(connected.one_by_one(&connections))?);
        results.extend(alone(&probe, &of(&[Way::Alone]))?);
    }
    runtime.shutdown_background();
    Ok(results)
}

/// A process for each, several at one time.
fn alone(probe: &Probe, cells: &[&Cell]) -> Result<Results> {
    let chunk = cells.len().div_ceil(AT_ONCE).max(1);
    thread::scope(|scope| {
        let working: Vec<_> = cells
            .chunks(chunk)
            .map(|cells| scope.spawn(|| cells.iter().map(|cell| probe.alone(cell)).collect()))
            .collect();
        let mut all = Results::new();
        for one in working {
            let results: Result<Results> =
                one.join().unwrap_or_else(|_| Err(anyhow!("a thread has panicked")));
            all.extend(results?);
        }
        Ok(all)
    })
}

/// The probe of one ABI version on one host.
#[derive(Clone, Copy)]
struct Probe<'a> {
    host: &'a Host,
    guest: &'static str,
    modules: &'a Modules,
    kind: FilterType,
}

impl Probe<'_> {
    async fn stage(&self, env: &[(&str, &str)]) -> Result<Stage> {
        Stage::start(self.host, self.configured(env)?).await
    }

    fn configured(&self, env: &[(&str, &str)]) -> Result<Plugin> {
        let vm = "probe".to_owned();
        let kind = match self.kind {
            FilterType::Http => "HTTP",
            FilterType::Network => "NETWORK",
        };
        let env = env.iter().copied().chain([("VM", vm.as_str()), ("KIND", kind)]);
        Ok(Plugin {
            name: "probe".to_owned(),
            module: self.modules.get(self.guest).context(self.guest)?.clone(),
            configuration: "the configuration".to_owned(),
            root_id: String::new(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            kind: self.kind,
            fail: FailStrategy::FailReload,
            isolation: None,
            allow_on_headers_stop_iteration: false,
            limits: BTreeMap::new(),
            vm_id: vm,
        })
    }

    /// Every callback of a few exchanges or connections, and of the plugin around them.
    async fn trace(&self) -> Result<Vec<Line>> {
        let stage = self.stage(&[("TRACE", "1")]).await?;
        let (tours, last) = match self.kind {
            FilterType::Http => (trace::TOURS.as_slice(), "callback proxy_on_delete stream"),
            FilterType::Network => {
                (trace::CONNECTED_TOURS.as_slice(), "callback proxy_on_delete connection")
            }
        };
        for tour in tours {
            stage.tour(tour, last).await?;
        }
        stage.end_plugin("callback proxy_on_delete plugin").await
    }

    /// All in one process, one after the other. A cell without a line is taken for the one that ended the guest, and the rest
    /// is tried again without it.
    async fn plugin(&self, mut cells: Vec<&Cell>) -> Result<Results> {
        let mut results = Results::new();
        while !cells.is_empty() {
            let words: Vec<String> = cells.iter().map(|cell| cell.words()).collect();
            let stage = self.stage(&[("CELLS", &words.join(" "))]).await?;
            let last = words.last().map(|word| format!("cell {word} ")).unwrap_or_default();
            let lines = stage.end_plugin(&last).await?;
            let before = cells.len();
            let mut missing = Vec::new();
            for cell in cells {
                match result(&lines, cell) {
                    Some(result) => _ = results.insert(cell.name(), result),
                    None => missing.push(cell),
                }
            }
            if missing.len() == before {
                results.extend(missing.iter().map(|cell| (cell.name(), NOT_CALLED.to_owned())));
                break;
            }
            cells = missing;
        }
        Ok(results)
    }

    /// A stage on which something has passed, so that the host is connected: a request that a filter ends may otherwise end
    /// before there is a connection to send it on.
    async fn warm_stage(&self) -> Result<Stage> {
        let stage = self.stage(&[]).await?;
        let _as_always = stage.pass().await;
        Ok(stage)
    }

    /// An exchange or a connection for each.
    async fn one_by_one(&self, cells: &[&Cell]) -> Result<Results> {
        let mut results = Results::new();
        if cells.is_empty() {
            return Ok(results);
        }
        let mut stage = self.warm_stage().await?;
        let mut silent = Silent::default();
        let mut before: Option<String> = None;
        for cell in cells {
            if silent.is(cell.phase) {
                results.insert(cell.name(), NOT_CALLED.to_owned());
                continue;
            }
            let mut filled = stage.cell(cell, cell.way()).await?;
            if filled.starts_with(NO_LINE) && stage.ends().await {
                // The one before it was the last that this process could bear.
                stage = self.warm_stage().await?;
                if let Some(result) = before.and_then(|name| results.get_mut(&name)) {
                    *result = ended(result);
                }
                filled = stage.cell(cell, cell.way()).await?;
            }
            silent.note(cell.phase, &filled);
            if FATAL.iter().any(|flow| cell.call.starts_with(flow)) && stage.ends().await {
                stage = self.warm_stage().await?;
                filled = ended(&filled);
            }
            results.insert(cell.name(), filled);
            before = Some(cell.name());
        }
        stage.end().await?;
        Ok(results)
    }
}

impl Probe<'_> {
    fn alone(&self, cell: &Cell) -> Result<(String, String)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            let Ok(stage) = self.stage(&[("CELLS", &cell.words())]).await else {
                return Ok(NO_START.to_owned());
            };
            let unusual = stage.pass().await;
            let lines = stage.end().await?;
            let result = result(&lines, cell).unwrap_or(NO_LINE.to_owned());
            Ok::<_, anyhow::Error>(result + &unusual)
        });
        runtime.shutdown_background();
        Ok((cell.name(), result?))
    }
}

/// Of a result that was the last of its process only the status is the same in every run.
fn ended(result: &str) -> String {
    let status = result.split(';').next().unwrap_or(result);
    format!("{status}; the host ends")
}

/// A phase whose first two cells come to nothing is one that the host never enters; the others need not be waited for.
#[derive(Default)]
struct Silent {
    phase: &'static str,
    tried: usize,
    filled: usize,
}

impl Silent {
    fn is(&self, phase: &str) -> bool {
        self.phase == phase && self.tried >= 2 && self.filled == 0
    }

    fn note(&mut self, phase: &'static str, result: &str) {
        if self.phase != phase {
            *self = Silent { phase, ..Silent::default() };
        }
        self.tried += 1;
        self.filled += usize::from(!result.starts_with(NO_LINE));
    }
}

fn result(lines: &[Line], cell: &Cell) -> Option<String> {
    lines.iter().find_map(|line| text(line, cell))
}
