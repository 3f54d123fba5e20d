//! Has the probe fill cells on one host: few processes, many cells in each.
//!
//! A cell's result is what the probe logged for it, and whatever was unusual about the exchange that it was filled in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::time::timeout;

use super::phases::{PHASES, Way};
use super::{ABIS, Cell, trace};
use crate::case::{Answer, Backend, Exchange, FailStrategy, FilterType, Piece, Protocol};
use crate::guests::Modules;
use crate::host::{Host, Line, Listener, Plugin, Running, Server, Setup};
use crate::net::{Received, Recorded, Seen, Servers, Waiter, send};

/// What came of cells, by their names.
pub type Results = BTreeMap<String, String>;

/// How long the end of an exchange, or a line, may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Processes at one time, for cells that need one each.
const AT_ONCE: usize = 4;
/// Calls that a host may not survive; after each it is asked whether it did.
const FATAL: [&str; 3] = ["continue_", "close_stream", "send_local_response"];
const NO_LINE: &str = "no line";
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
            cells.iter().filter(|cell| cell.abi == abi && ways.contains(&way(cell))).collect()
        };
        let probe = Probe { host, guest, modules };
        if !of(&[Way::Trace]).is_empty() {
            let lines = runtime.block_on(probe.trace())?;
            results.extend(trace::results(abi, &lines));
        }
        results.extend(runtime.block_on(probe.plugin(of(&[Way::Plugin])))?);
        let exchanges = of(&[Way::Exchange, Way::NextExchange]);
        results.extend(runtime.block_on(probe.exchanges(&exchanges))?);
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

fn way(cell: &Cell) -> Way {
    let phase = PHASES.iter().find(|phase| phase.name == cell.phase);
    phase.map_or(Way::Exchange, |phase| phase.way)
}

/// The probe of one ABI version on one host.
struct Probe<'a> {
    host: &'a Host,
    guest: &'static str,
    modules: &'a Modules,
}

/// A host that runs it, and the servers behind.
struct Stage {
    servers: Servers,
    running: Arc<Running>,
    waiter: Waiter,
}

impl Probe<'_> {
    async fn stage(&self, env: &[(&str, &str)]) -> Result<Stage> {
        let servers = Servers::start(&backends()).await?;
        let listener = Listener { name: "web".to_owned(), plugins: vec![self.configured(env)?] };
        let addresses = servers.addresses();
        let setup = Setup {
            workers: 1,
            listeners: vec![listener],
            backends: addresses
                .map(|(name, address, protocol)| (name.clone(), Server { protocol, address }))
                .collect(),
        };
        let host = self.host.clone();
        let running = tokio::task::spawn_blocking(move || host.start(&setup)).await??;
        let waiter: Waiter = Arc::new(|_| false);
        Ok(Stage { servers, running: Arc::new(running), waiter })
    }

    fn configured(&self, env: &[(&str, &str)]) -> Result<Plugin> {
        let vm = "probe".to_owned();
        let env = env.iter().copied().chain([("VM", vm.as_str())]);
        Ok(Plugin {
            name: "probe".to_owned(),
            module: self.modules.get(self.guest).context(self.guest)?.clone(),
            configuration: "the configuration".to_owned(),
            root_id: String::new(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            kind: FilterType::Http,
            fail: FailStrategy::FailReload,
            isolation: None,
            allow_on_headers_stop_iteration: false,
            limits: BTreeMap::new(),
            vm_id: vm,
        })
    }

    /// Every callback of a few exchanges, and of the plugin around them.
    async fn trace(&self) -> Result<Vec<Line>> {
        let stage = self.stage(&[("TRACE", "1")]).await?;
        for tour in trace::TOURS {
            let seen = stage.running.line_count();
            let _seen_elsewhere = stage.send(tour).await;
            for cell in tour.split(' ').chain(["callback proxy_on_delete stream"]) {
                let _not_called = stage.line(seen, cell).await?;
            }
        }
        stage.end_plugin("callback proxy_on_delete plugin").await
    }

    /// All in one process, one after the other. A cell without a line is taken for the one that ended the guest, and the rest
    /// is tried again without it.
    async fn plugin(&self, mut cells: Vec<&Cell>) -> Result<Results> {
        let mut results = Results::new();
        while !cells.is_empty() {
            let words: Vec<String> =
                cells.iter().map(|cell| format!("{}/{}", cell.phase, cell.call)).collect();
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

    /// One exchange for each.
    async fn exchanges(&self, cells: &[&Cell]) -> Result<Results> {
        let mut results = Results::new();
        if cells.is_empty() {
            return Ok(results);
        }
        let mut stage = self.stage(&[]).await?;
        let mut silent = Silent::default();
        let mut before: Option<String> = None;
        for cell in cells {
            if silent.is(cell.phase) {
                results.insert(cell.name(), NOT_CALLED.to_owned());
                continue;
            }
            let mut filled = stage.exchange(cell).await?;
            if filled.starts_with(NO_LINE) && stage.ends().await {
                // The one before it was the last that this process could bear.
                stage = self.stage(&[]).await?;
                if let Some(result) = before.and_then(|name| results.get_mut(&name)) {
                    *result = ended(result);
                }
                filled = stage.exchange(cell).await?;
            }
            silent.note(cell.phase, &filled);
            if FATAL.iter().any(|flow| cell.call.starts_with(flow)) && stage.ends().await {
                stage = self.stage(&[]).await?;
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
            let words = format!("{}/{}", cell.phase, cell.call);
            let Ok(stage) = self.stage(&[("CELLS", &words)]).await else {
                return Ok(NO_START.to_owned());
            };
            let received = stage.send("").await;
            let recorded = stage.servers.take_recorded("origin");
            let lines = stage.end().await?;
            let result = result(&lines, cell).unwrap_or(NO_LINE.to_owned());
            Ok::<_, anyhow::Error>(result + &unusual(received.as_ref(), &recorded))
        });
        runtime.shutdown_background();
        Ok((cell.name(), result?))
    }
}

impl Stage {
    async fn exchange(&self, cell: &Cell) -> Result<String> {
        let words = format!("{}/{}", cell.phase, cell.call);
        let seen = self.running.line_count();
        let mut received = self.send(&words).await;
        if way(cell) == Way::NextExchange {
            let _of_the_one_before = self.servers.take_recorded("origin");
            received = self.send("").await;
        }
        let line = self.line(seen, &format!("cell {words} ")).await?;
        let result = line.and_then(|line| text(&line, cell)).unwrap_or(NO_LINE.to_owned());
        let recorded = self.servers.take_recorded("origin");
        Ok(result + &unusual(received.as_ref(), &recorded))
    }

    /// What the client gets; `None`: it waits in vain, or nobody listens.
    async fn send(&self, cells: &str) -> Option<Received> {
        let address = self.running.address("web").ok()?;
        let request = request(cells);
        timeout(PATIENCE, send(address, &request, &self.waiter)).await.ok()?.ok()
    }

    /// Waits for a line that contains this.
    async fn line(&self, skip: usize, part: &str) -> Result<Option<Line>> {
        let (running, part) = (self.running.clone(), part.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            running.find_line(skip, PATIENCE, |line| line.message.contains(&part))
        });
        Ok(found.await?)
    }

    /// Whether the process has ended, or is about to: one that writes down why it crashed still lives, and answers nobody.
    async fn ends(&mut self) -> bool {
        let answers = self.send("").await.is_some_and(|received| received.status.is_some());
        let _of_this_one = self.servers.take_recorded("origin");
        !answers
    }

    /// The plugin ends, and then the process; `last` is the line to wait for in between, if the end of the process does not bring it.
    async fn end_plugin(self, last: &str) -> Result<Vec<Line>> {
        if self.running.withdraw_filters()? {
            let _judged_by_the_lines = self.line(0, last).await?;
        }
        self.end().await
    }

    async fn end(self) -> Result<Vec<Line>> {
        drop(self.servers);
        let running = Arc::into_inner(self.running).context("somebody still waits for a line")?;
        tokio::task::spawn_blocking(move || running.stop()).await?
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

fn text(line: &Line, cell: &Cell) -> Option<String> {
    let prefix = format!("cell {}/{} ", cell.phase, cell.call);
    line.message.strip_prefix(&prefix).map(str::to_owned)
}

fn field(value: &str) -> Vec<(String, String)> {
    vec![("x-value".to_owned(), value.to_owned())]
}

/// Everything on HTTP/2, so that trailers pass.
fn backends() -> BTreeMap<String, Backend> {
    let answer = Answer {
        headers: field("response"),
        body: vec![Piece::Text("pong".to_owned())],
        trailers: field("end of response"),
        ..Answer::default()
    };
    let called =
        Answer { headers: field("called"), trailers: field("end of call"), ..answer.clone() };
    let mut grpc = Answer {
        body: vec![Piece::Text("\0\0\0\0\u{4}pong".to_owned())],
        headers: field("initial metadata"),
        trailers: field("trailing metadata"),
        ..Answer::default()
    };
    grpc.headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
    grpc.trailers.push(("grpc-status".to_owned(), "0".to_owned()));
    [("origin", answer), ("aux", called), ("grpc", grpc)]
        .into_iter()
        .map(|(name, answer)| {
            let backend = Backend { protocol: Protocol::Http2, refuses: false, answer };
            (name.to_owned(), backend)
        })
        .collect()
}

fn request(cells: &str) -> Exchange {
    let mut headers = field("request");
    if !cells.is_empty() {
        headers.push(("x-cells".to_owned(), cells.to_owned()));
    }
    Exchange {
        method: "POST".to_owned(),
        path: "/probe".to_owned(),
        protocol: Protocol::Http2,
        headers,
        body: vec![Piece::Text("ping".to_owned())],
        trailers: field("end of request"),
        ..Exchange::default()
    }
}

/// What the client and the origin saw, as far as it is not what they always see. What a host says in an error response of its
/// own is left out.
fn unusual(received: Option<&Received>, recorded: &[Recorded]) -> String {
    let mut found = Vec::new();
    match received {
        None => found.push("client waits in vain".to_owned()),
        Some(Received { status: None, .. }) => found.push("client reset".to_owned()),
        Some(Received { seen, .. }) if seen.broken => found.push("client reset".to_owned()),
        Some(Received { status: Some(200), seen }) => {
            message("client", seen, ["response", "pong", "end of response"], &mut found);
        }
        Some(Received { status: Some(status), .. }) => found.push(format!("client {status}")),
    }
    match recorded {
        [] => found.push("origin not reached".to_owned()),
        [request] if request.seen.broken => found.push("origin reset".to_owned()),
        [request] => {
            let expected = ["request", "ping", "end of request"];
            message("origin", &request.seen, expected, &mut found);
        }
        _ => found.push(format!("origin reached {} times", recorded.len())),
    }
    found.iter().map(|unusual| format!("; {unusual}")).collect()
}

fn message(who: &str, seen: &Seen, expected: [&str; 3], found: &mut Vec<String>) {
    let body = String::from_utf8_lossy(&seen.body);
    if body != expected[1] {
        found.push(format!("{who} body {body:?}"));
    }
    for (kind, fields, expected) in
        [("header", &seen.headers, expected[0]), ("trailer", &seen.trailers, expected[2])]
    {
        let value = Seen::field(fields, "x-value");
        if value.as_deref() != Some(expected) {
            found.push(format!("{who} {kind} x-value {}", value.as_deref().unwrap_or("gone")));
        }
        if let Some(value) = Seen::field(fields, "x-fresh") {
            found.push(format!("{who} {kind} x-fresh {value}"));
        }
    }
}
