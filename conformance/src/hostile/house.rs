//! One portcullis on a folder into which guests come and from which they go, and what can be seen of it from outside: its
//! status, its metrics, its memory.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::others;
use super::table::Guest;
use crate::case::Protocol;
use crate::host::{PATIENCE, Portcullis, Process, Serving};
use crate::net::get;

/// Where guests are.
pub const HOSTILE: &str = "hostile";
/// Where everybody else is.
pub const OTHERS: &str = "others";
/// The server that speaks HTTP/2, and so sends trailers; it gets what is asked of `/trailers`.
pub const TRAILERS: &str = "trailers";

/// What the process logs; what guests say would be too much.
const LEVELS: &str = "warn,filter=off";
/// Between two looks at something that cannot be waited for.
const LOOK: Duration = Duration::from_millis(5);
/// For an exchange that a guest never lets go.
const REQUEST_TIMEOUT: &str = "1s";

/// The process and its folder.
pub struct House {
    process: Process,
    home: TempDir,
    admin: SocketAddr,
    hostile: SocketAddr,
    others: SocketAddr,
}

/// What became of a guest's filter.
pub enum Fate {
    /// It is live.
    Live,
    /// It never was: code and text of the first problem.
    Refused(String, String),
}

impl House {
    /// Starts it, on one worker, so that all share it; with servers by name, of which `others` gets what they send, and
    /// `origin` the rest.
    pub fn start(
        portcullis: &Portcullis,
        servers: &[(String, SocketAddr, Protocol)],
    ) -> Result<House> {
        let home = tempfile::tempdir()?;
        let folder = home.path().join("conf");
        fs::create_dir(&folder)?;
        fs::write(folder.join("others.wasm"), wat::parse_str(others::FILTER)?)?;
        fs::write(folder.join("house.yaml"), documents(servers))?;
        let cache = home.path().join("cache");
        let Serving { process, listeners, admin } = portcullis.serve(&folder, &cache, LEVELS)?;
        let address = |name| listeners.get(name).copied().context("a listener does not listen");
        Ok(House { hostile: address(HOSTILE)?, others: address(OTHERS)?, admin, process, home })
    }

    /// Where requests meet guests.
    pub fn hostile(&self) -> SocketAddr {
        self.hostile
    }

    /// Where they do not.
    pub fn others(&self) -> SocketAddr {
        self.others
    }

    /// Puts a guest into the folder, and waits for what becomes of its filter.
    pub fn admit(&mut self, guest: &Guest) -> Result<Fate> {
        let before = self.generation()?;
        fs::write(self.file(&guest.name, "wasm"), guest.module()?)?;
        let new = self.home.path().join("new");
        fs::write(&new, filter(guest).to_string())?;
        fs::rename(&new, self.file(&guest.name, "yaml"))?;
        let file = format!("{}.yaml", guest.name);
        self.wait("neither live nor refused", |status| {
            let sources = status["sources"].as_array().into_iter().flatten();
            let problem = sources
                .filter(|source| source["name"].as_str().is_some_and(|name| name.ends_with(&file)))
                .flat_map(|source| source["problems"].as_array().into_iter().flatten())
                .find(|problem| problem["severity"] == "error");
            if let Some(problem) = problem {
                let code = problem["code"].as_str().unwrap_or_default().to_owned();
                return Some(Fate::Refused(code, problem.to_string()));
            }
            (status["proxy"]["generation"].as_u64() > Some(before)).then_some(Fate::Live)
        })
    }

    /// Takes a guest away, and waits until its filter is gone.
    pub fn expel(&mut self, guest: &Guest) -> Result<()> {
        fs::remove_file(self.file(&guest.name, "yaml"))?;
        fs::remove_file(self.file(&guest.name, "wasm"))?;
        let (file, name) = (format!("{}.yaml", guest.name), full(guest));
        self.wait("does not go", |status| {
            let is_there =
                status["sources"].as_array().into_iter().flatten().any(|source| {
                    source["name"].as_str().is_some_and(|known| known.ends_with(&file))
                });
            (!is_there && entry(status, &name).is_none()).then_some(())
        })
    }

    /// What `/status` says of a guest's filter.
    pub fn filter(&self, guest: &Guest) -> Result<Value> {
        entry(&self.status()?, &full(guest)).cloned().context("status does not show the filter")
    }

    /// Host calls of a guest that were counted as violations.
    pub fn violations(&self, guest: &Guest) -> Result<BTreeSet<String>> {
        let label = format!("filter=\"{}\"", full(guest));
        let call = |line: &str| {
            let labels = line.strip_prefix("portcullis_filter_phase_violations_total{")?;
            let call = labels.split("call=\"").nth(1)?.split('"').next()?;
            labels.contains(&label).then(|| call.to_owned())
        };
        Ok(get(self.admin, "/metrics")?.lines().filter_map(call).collect())
    }

    /// The most resident memory since the last call, in MiB.
    pub fn take_peak(&self) -> Result<u64> {
        let folder = PathBuf::from(format!("/proc/{}", self.process.id()));
        let text = fs::read_to_string(folder.join("status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        // proc(5): 5 sets the peak to what is resident now.
        fs::write(folder.join("clear_refs"), "5")?;
        Ok(kib.context("no VmHWM")? >> 10)
    }

    /// Ends it as an operator would.
    pub fn stop(mut self) -> Result<()> {
        self.process.stop()
    }

    /// Looks until `found` answers.
    pub fn wait<T>(&mut self, what: &str, found: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let started = Instant::now();
        loop {
            ensure!(self.process.lives(), "the process has ended\n{}", self.process.last_lines());
            if let Some(found) = found(&self.status()?) {
                return Ok(found);
            }
            ensure!(started.elapsed() < PATIENCE, "{what} in time");
            thread::sleep(LOOK);
        }
    }

    fn generation(&self) -> Result<u64> {
        self.status()?["proxy"]["generation"].as_u64().context("status shows no generation")
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&get(self.admin, "/status")?)?)
    }

    fn file(&self, name: &str, ending: &str) -> PathBuf {
        self.home.path().join("conf").join(format!("{name}.{ending}"))
    }
}

fn full(guest: &Guest) -> String {
    format!("default/{}", guest.name)
}

fn entry<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status["proxy"]["filters"].as_array()?.iter().find(|filter| filter["name"] == name)
}

const API: &str = "portcullis.dev/v1alpha1";

fn documents(servers: &[(String, SocketAddr, Protocol)]) -> String {
    let listener = |name| json!({"name": name, "address": "127.0.0.1:0", "protocol": "HTTP"});
    let proxy = json!({
        "apiVersion": API, "kind": "Proxy", "metadata": {"name": "host"},
        "spec": {
            "workers": 1,
            "admin": {"address": "127.0.0.1:0"},
            "drain": {"delay": "0s", "timeout": "5s"},
            "listeners": [listener(HOSTILE), listener(OTHERS)],
        },
    });
    let bystander = wasm_filter(OTHERS, OTHERS, json!({}));
    let mut all = vec![proxy, bystander, route(HOSTILE, "origin"), route(OTHERS, OTHERS)];
    all.extend(servers.iter().map(|(name, address, protocol)| {
        let endpoints = [json!({"address": address.to_string()})];
        let protocol = if *protocol == Protocol::Http2 { "H2C" } else { "HTTP" };
        json!({
            "apiVersion": API, "kind": "Backend", "metadata": {"name": name},
            "spec": {"protocol": protocol, "endpoints": endpoints},
        })
    }));
    all.iter().map(|document| format!("---\n{document}\n")).collect()
}

fn target(listener: &str) -> Value {
    json!({"group": "portcullis.dev", "kind": "Proxy", "name": "host", "sectionName": listener})
}

fn route(listener: &str, backend: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": listener},
        "spec": {
            "parentRefs": [target(listener)],
            "rules": [rule(TRAILERS, TRAILERS), rule("", backend)],
        },
    })
}

fn rule(path: &str, backend: &str) -> Value {
    json!({
        "matches": [{"path": {"type": "PathPrefix", "value": format!("/{path}")}}],
        "backendRefs": [{"name": backend, "port": 80}],
        "timeouts": {"request": REQUEST_TIMEOUT},
    })
}

fn filter(guest: &Guest) -> Value {
    wasm_filter(&guest.name, HOSTILE, json!(guest.limits))
}

fn wasm_filter(name: &str, listener: &str, limits: Value) -> Value {
    json!({
        "apiVersion": API, "kind": "WasmFilter", "metadata": {"name": name},
        "spec": {
            "url": format!("file://{name}.wasm"),
            "targetRefs": [target(listener)],
            "limits": limits,
        },
    })
}
