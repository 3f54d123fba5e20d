//! Plays one case on one host: servers, host, requests, end. It reports what happened and judges nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::case::{Case, Filter};
use crate::guests::Modules;
use crate::host::{Host, Line, Listener, Plugin, Running, Server, Setup};
use crate::net::{Received, Recorded, Servers, Waiter, connect, send};

/// How long a line of a guest may take.
const LINE_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at something that cannot be waited for.
const LOOK: Duration = Duration::from_millis(5);
const ORIGIN: &str = "origin";

/// What happened.
#[derive(Debug, Default)]
pub struct Played {
    /// Why the host did not start.
    pub refused: Option<String>,
    /// For each request what its client got, and what the origin was sent meanwhile.
    pub exchanges: Vec<(Received, Vec<Recorded>)>,
    /// For each connection all that its client got.
    pub connections: Vec<Vec<u8>>,
    /// Of all guests, in order.
    pub log: Vec<Line>,
    /// Of all guests, after the last request.
    pub metrics: BTreeMap<String, u64>,
}

/// Plays it.
///
/// # Errors
/// The host dies, hangs or cannot be asked; that is never what a case expects.
pub fn play(case: &Case, host: &Host, modules: &Modules) -> Result<Played> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let played = runtime.block_on(played(case, host, modules));
    // A server that never answers holds nobody up.
    runtime.shutdown_background();
    played
}

async fn played(case: &Case, host: &Host, modules: &Modules) -> Result<Played> {
    let mut backends = case.backends.clone();
    backends.entry(ORIGIN.to_owned()).or_default();
    let servers = Servers::start(&backends).await?;
    let setup = setup(case, &servers, modules)?;
    let host = host.clone();
    let running = match aside(move || host.start(&setup)).await {
        Ok(running) => Arc::new(running),
        Err(error) if !case.starts => {
            return Ok(Played { refused: Some(format!("{error:#}")), ..Played::default() });
        }
        Err(error) => return Err(error),
    };
    let waiter = waiter(&running);
    servers.set_waiter(&waiter);
    let mut played = Played::default();
    let script = &backends[ORIGIN].answer;
    for (at, connection) in case.connections.iter().enumerate() {
        let received = connect(running.address(LISTENER)?, connection, &waiter).await;
        played.connections.push(received.with_context(|| format!("connection {}", at + 1))?);
    }
    for (at, exchange) in case.requests.iter().enumerate() {
        servers.set_answer(ORIGIN, exchange.answer.as_ref().unwrap_or(script));
        let address = running.address(LISTENER)?;
        let received = send(address, exchange, &waiter).await;
        let received = received.with_context(|| format!("request {}", at + 1))?;
        played.exchanges.push((received, servers.take_recorded(ORIGIN)));
    }
    for text in &case.await_log {
        let (waiter, text) = (waiter.clone(), text.clone());
        // The comparison of the log tells what did not come.
        let _came = aside(move || Ok(waiter(&text))).await?;
    }
    let ending = running.clone();
    played.metrics = aside(move || ending.metrics()).await?;
    let running = only(running).await?;
    played.log = aside(move || running.stop()).await?;
    Ok(played)
}

/// What blocks its thread, while the servers go on.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

const LISTENER: &str = "web";

fn setup(case: &Case, servers: &Servers, modules: &Modules) -> Result<Setup> {
    let plugins = case.filters.iter().map(|filter| plugin(filter, modules));
    let listener = Listener { name: LISTENER.to_owned(), plugins: plugins.collect::<Result<_>>()? };
    let servers = servers.addresses();
    let servers =
        servers.map(|(name, address, protocol)| (name.clone(), Server { protocol, address }));
    Ok(Setup { workers: case.workers, listeners: vec![listener], backends: servers.collect() })
}

/// A case's filter as hosts are given it.
///
/// # Errors
/// Its guest was not compiled.
pub fn plugin(filter: &Filter, modules: &Modules) -> Result<Plugin> {
    let name = filter.name();
    Ok(Plugin {
        module: modules.get(&filter.guest).with_context(|| filter.guest.clone())?.clone(),
        kind: filter.kind,
        configuration: filter.configuration()?,
        root_id: filter.plugin_name.clone(),
        vm_id: filter.vm_id.clone().unwrap_or_else(|| format!("default/{name}")),
        env: filter.env.clone(),
        fail: filter.fail_strategy,
        isolation: filter.isolation.clone(),
        allow_on_headers_stop_iteration: filter.allow_on_headers_stop_iteration,
        limits: filter.limits.clone(),
        name,
    })
}

/// The process itself, once nobody waits for a line of it any more: an end of a message may be over before its own wait is.
///
/// # Errors
/// Somebody still does.
pub async fn only(mut running: Arc<Running>) -> Result<Running> {
    let until = Instant::now() + 2 * LINE_PATIENCE;
    loop {
        running = match Arc::try_unwrap(running) {
            Ok(alone) => return Ok(alone),
            Err(shared) => shared,
        };
        ensure!(Instant::now() < until, "somebody still waits for a line");
        tokio::time::sleep(LOOK).await;
    }
}

fn waiter(running: &Arc<Running>) -> Waiter {
    let running = Arc::downgrade(running);
    Arc::new(move |text| {
        running.upgrade().is_some_and(|running| {
            let line = running.find_line(0, LINE_PATIENCE, |line| line.message.contains(text));
            line.is_some()
        })
    })
}
