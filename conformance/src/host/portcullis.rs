//! Portcullis: documents in a folder, addresses from what it says at the start, guests' lines from its JSON log, metrics
//! from its admin server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::process::{Line, Process};
use super::{Listener, Plugin, Running, Server, Setup};
use crate::case::{FailStrategy, FilterType, HostName, Protocol};
use crate::{net, place};

const API: &str = "portcullis.dev/v1alpha1";
const DOCUMENTS: &str = "all.yaml";
const FILTER: &str = "WasmFilter";
/// Levels of its own log and of guests.
const LEVELS: &str = "warn,filter=trace";

/// The program.
#[derive(Clone, Debug)]
pub struct Portcullis {
    program: PathBuf,
}

impl Portcullis {
    /// An existing program.
    #[must_use]
    pub fn at(program: PathBuf) -> Portcullis {
        Portcullis { program }
    }

    /// Built from this tree, as cargo does by default.
    ///
    /// # Errors
    /// It does not compile.
    pub fn build() -> Result<Portcullis> {
        let root = place::home().parent().context("no workspace around us")?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let built = cargo.args(["build", "--quiet", "--package", "portcullis"]).current_dir(root);
        ensure!(built.status()?.success(), "portcullis does not compile");
        Ok(Portcullis { program: place::target().join("debug/portcullis") })
    }

    pub(super) fn start(&self, setup: &Setup) -> Result<Running> {
        let home = tempfile::tempdir()?;
        let folder = home.path().join("conf");
        fs::create_dir(&folder)?;
        fs::write(folder.join(DOCUMENTS), documents(setup))?;
        for plugin in setup.listeners.iter().flat_map(|listener| &listener.plugins) {
            let module = folder.join(module_file(plugin));
            fs::copy(&plugin.module, module)
                .with_context(|| plugin.module.display().to_string())?;
        }
        let Serving { process, listeners, admin } = self.serve(&folder, &cache()?, LEVELS)?;
        let host = HostName::Portcullis;
        Ok(Running { host, process, listeners, admin, threads: Vec::new(), home })
    }

    /// Runs it on a folder of documents, until it serves.
    pub(crate) fn serve(&self, folder: &Path, cache: &Path, levels: &str) -> Result<Serving> {
        let mut command = Command::new(&self.program);
        command.args(["run", "--log-format", "json", "--config"]).arg(folder);
        command.arg("--cache").arg(cache).env("PORTCULLIS_LOG", levels);
        let mut process = Process::start(&mut command, Box::new(read_line))?;
        process
            .until(|said| said.iter().any(|line| line.starts_with("generation ")).then_some(()))?;
        let (listeners, admin) = process.until(|said| Some(addresses(said)))?;
        let admin = admin.context("it does not say where its admin server is")?;
        Ok(Serving { process, listeners, admin })
    }
}

/// The program at work.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) process: Process,
    pub(crate) listeners: BTreeMap<String, SocketAddr>,
    pub(crate) admin: SocketAddr,
}

/// The documents without the filters among them.
pub(super) fn withdraw_filters(home: &Path) -> Result<()> {
    let file = home.join("conf").join(DOCUMENTS);
    let text = fs::read_to_string(&file)?;
    let others = text.split("---\n").filter(|document| !document.contains(FILTER));
    let draft = home.join("draft");
    fs::write(&draft, others.collect::<Vec<_>>().join("---\n"))?;
    Ok(fs::rename(draft, file)?)
}

/// Compiled modules, for all runs.
fn cache() -> Result<PathBuf> {
    let folder = place::kept().join("cache");
    fs::create_dir_all(place::kept())?;
    Ok(folder)
}

fn module_file(plugin: &Plugin) -> String {
    let folder = plugin.module.file_name().map(Path::new).unwrap_or(Path::new("module.wasm"));
    folder.to_string_lossy().into_owned()
}

/// A YAML stream of documents that are JSON.
fn documents(setup: &Setup) -> String {
    let mut all = vec![proxy(setup), route()];
    all.extend(setup.backends.iter().map(|(name, server)| backend(name, server)));
    all.extend(setup.listeners.iter().filter(|listener| listener.is_network()).map(tcp_route));
    for listener in &setup.listeners {
        let count = listener.plugins.len();
        let filters = listener.plugins.iter().enumerate();
        all.extend(filters.map(|(at, plugin)| filter(listener, plugin, count - at)));
    }
    all.iter().fold(String::new(), |mut text, document| {
        let _infallible = write!(text, "---\n{document}\n");
        text
    })
}

fn document(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn proxy(setup: &Setup) -> Value {
    let listener = |listener: &Listener| json!({"name": listener.name, "address": "127.0.0.1:0", "protocol": protocol(listener)});
    let spec = json!({
        "workers": setup.workers,
        "admin": {"address": "127.0.0.1:0"},
        "drain": {"delay": "0s", "timeout": "5s"},
        "listeners": setup.listeners.iter().map(listener).collect::<Vec<_>>(),
    });
    document("Proxy", "host", spec)
}

fn protocol(listener: &Listener) -> &'static str {
    if listener.is_network() { "TCP" } else { "HTTP" }
}

/// Connections go where requests go.
fn tcp_route(listener: &Listener) -> Value {
    let parent = json!({"group": "portcullis.dev", "kind": "Proxy", "name": "host", "sectionName": listener.name});
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1alpha2",
        "kind": "TCPRoute",
        "metadata": {"name": listener.name},
        "spec": {"parentRefs": [parent], "rules": [{"backendRefs": [{"name": "origin", "port": 80}]}]},
    })
}

fn route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "everything"},
        "spec": {"rules": [{"backendRefs": [{"name": "origin", "port": 80}]}]},
    })
}

fn backend(name: &str, server: &Server) -> Value {
    let protocol = match server.protocol {
        Protocol::Http1 => "HTTP",
        Protocol::Http2 => "H2C",
        Protocol::Tcp => "TCP",
    };
    let endpoints = [json!({"address": server.address.to_string()})];
    document("Backend", name, json!({"protocol": protocol, "endpoints": endpoints}))
}

fn filter(listener: &Listener, plugin: &Plugin, priority: usize) -> Value {
    let fail = match plugin.fail {
        FailStrategy::FailClose => "FAIL_CLOSE",
        FailStrategy::FailOpen => "FAIL_OPEN",
        FailStrategy::FailReload => "FAIL_RELOAD",
    };
    let env = |(name, value): (&String, &String)| json!({"name": name, "value": value});
    let target = json!({
        "group": "portcullis.dev", "kind": "Proxy", "name": "host", "sectionName": listener.name,
    });
    let mut spec = json!({
        "url": format!("file://{}", module_file(plugin)),
        "type": match plugin.kind {
            FilterType::Http => "HTTP",
            FilterType::Network => "NETWORK",
        },
        "priority": priority,
        "failStrategy": fail,
        "pluginName": plugin.root_id,
        "pluginConfig": plugin.configuration,
        "vmConfig": {"vmId": plugin.vm_id, "env": plugin.env.iter().map(env).collect::<Vec<_>>()},
        "targetRefs": [target],
        "allowOnHeadersStopIteration": plugin.allow_on_headers_stop_iteration,
        "limits": plugin.limits,
        "logLevel": "debug",
    });
    if let Some(isolation) = &plugin.isolation {
        spec["isolation"] = json!(isolation);
    }
    document(FILTER, &plugin.name, spec)
}

fn addresses(said: &[String]) -> (BTreeMap<String, SocketAddr>, Option<SocketAddr>) {
    let mut listeners = BTreeMap::new();
    let mut admin = None;
    for line in said {
        if let Some(address) = line.strip_prefix("admin http://") {
            admin = address.parse().ok();
        }
        let listener = || {
            let (url, name) =
                line.strip_prefix("listening ")?.strip_suffix(')')?.split_once(" (")?;
            Some((name.to_owned(), url.split_once("://")?.1.parse().ok()?))
        };
        listeners.extend(listener());
    }
    (listeners, admin)
}

/// Rehearsals are left out: Envoy's run on its main thread, which is left out too.
fn read_line(line: &str) -> Option<Line> {
    let event: Value = serde_json::from_str(line).ok()?;
    if event["target"] != "filter" || event["rehearsal"] == true {
        return None;
    }
    let text = |name: &str| Some(event[name].as_str()?.to_owned());
    Some(Line { filter: text("filter")?, message: text("message")?, thread: None })
}

/// `wasmcustom_NAME{filter="…"} VALUE`
pub(super) fn metrics(admin: SocketAddr) -> Result<BTreeMap<String, u64>> {
    let page = net::get(admin, "/metrics")?;
    let sample = |line: &str| {
        let (name, value) = line.strip_prefix("wasmcustom_")?.rsplit_once(' ')?;
        let name = name.split('{').next()?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Ok(page.lines().filter_map(sample).collect())
}
