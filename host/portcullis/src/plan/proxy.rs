//! The Proxy document: which one is ours, its listeners, its limits, and what the process needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use portcullis_proxy::observe::AccessLogger;
use portcullis_proxy::snapshot::{AccessLog, AccessLogFormat, Limits, Listener};

use super::ProcessSettings;
use super::catalogue::Catalogue;
use super::desk::Desk;
use super::{listener, words};
use crate::diagnose::{Code, Problem, nearest};
use crate::spec::own::{AccessLogSpec, LogFormat, ProxySpec};
use crate::spec::{Document, Object, is_name};

const MAX_WORKERS: usize = 4;
/// The smallest buffer that hyper reads an HTTP/1 head into.
const LEAST_HEADER_BYTES: usize = 8 << 10;
const DRAIN_DELAY: Duration = Duration::from_secs(5);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The Proxy document that is meant.
pub(super) fn choose<'a>(
    catalogue: &'a Catalogue,
    wanted: Option<&str>,
    desk: &mut Desk<'_>,
) -> Option<&'a Document> {
    let all: Vec<&Document> = catalogue.of("Proxy").collect();
    let names = || all.iter().map(|proxy| proxy.name.as_str());
    if let Some(wanted) = wanted {
        let meant = |proxy: &&&Document| proxy.name == wanted || proxy.key() == wanted;
        let found: Vec<&Document> = all.iter().filter(meant).copied().collect();
        match found.as_slice() {
            [] => {}
            [one] => return Some(one),
            _ => {
                let names = found.iter().map(|proxy| proxy.key()).collect::<Vec<_>>().join(", ");
                let title = format!("there are several Proxies {wanted}: {names}");
                let problem = Problem::new(Code::P0114, title);
                return desk.refuse(problem.hint("choose one with --proxy NAMESPACE/NAME"));
            }
        }
        let problem = Problem::new(Code::P0114, format!("there is no Proxy {wanted}"));
        return desk.refuse(match nearest(wanted, names()) {
            Some(near) => problem.hint(format!("did you mean --proxy {near}?")),
            None => problem.hint("add a document of kind Proxy with this name"),
        });
    }
    match all.as_slice() {
        [one] => Some(one),
        // It may be in what could not be read, which is a problem of its own already.
        [] if !desk.unread.is_empty() => None,
        [] => {
            let problem = Problem::new(Code::P0114, "there is no Proxy document");
            desk.refuse(problem.hint("add one: it says where to listen"))
        }
        _ => {
            let names = names().collect::<Vec<_>>().join(", ");
            let problem = Problem::new(Code::P0114, format!("there are several Proxies: {names}"));
            desk.refuse(problem.hint("choose one with --proxy NAME"))
        }
    }
}

fn spec(document: &Document) -> Option<&ProxySpec> {
    match document.object.as_ref() {
        Some(Object::Proxy(spec)) => Some(spec),
        _ => None,
    }
}

/// What the process needs.
pub(super) fn process(document: &Document, desk: &mut Desk<'_>) -> Option<ProcessSettings> {
    let spec = spec(document)?;
    check_settings(document, spec, desk);
    if spec.workers == Some(0) {
        let problem = document.problem(Code::P0111, "spec.workers", "0 workers do nothing");
        desk.problems.push(problem.hint("leave it out, or use a number from 1"));
    }
    let cpus = || thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    let workers = spec.workers.map_or_else(cpus, |workers| workers as usize).max(1);
    let server = |field: &str, address: Option<&str>, desk: &mut Desk<'_>| {
        address.and_then(|text| socket(document, field, text, desk))
    };
    let admin = spec.admin.as_ref().map(|server| server.address.as_str());
    let health = spec.health.as_ref().map(|server| server.address.as_str());
    Some(ProcessSettings {
        proxy: document.key(),
        workers,
        admin: server("spec.admin.address", admin, desk),
        health: server("spec.health.address", health, desk),
        drain_delay: spec.drain.delay.map_or(DRAIN_DELAY, |delay| delay.get()),
        drain_timeout: spec.drain.timeout.map_or(DRAIN_TIMEOUT, |timeout| timeout.get()),
    })
}

pub(super) fn socket(
    document: &Document,
    field: &str,
    text: &str,
    desk: &mut Desk<'_>,
) -> Option<SocketAddr> {
    words::socket(text)
        .map_err(|hint| {
            let title = format!("{text:?} is not an address to listen on");
            desk.problems.push(document.problem(Code::P0111, field, title).hint(hint));
        })
        .ok()
}

/// All listeners that are right, without their filters.
pub(super) fn listeners(document: &Document, desk: &mut Desk<'_>) -> Vec<Listener> {
    let Some(spec) = spec(document) else { return Vec::new() };
    let mut names = BTreeMap::new();
    let mut listeners = Vec::new();
    for (index, listener) in spec.listeners.iter().enumerate() {
        let field = format!("spec.listeners[{index}]");
        if let Some(first) = names.insert(&listener.name, index) {
            let title = format!("the listener name {:?} is taken", listener.name);
            let problem = document.problem(Code::P0111, &format!("{field}.name"), title);
            desk.problems.push(problem.hint(format!("spec.listeners[{first}] has it")));
        }
        if !is_name(&listener.name) {
            let title = format!("{:?} is not a name", listener.name);
            let problem = document.problem(Code::P0111, &format!("{field}.name"), title);
            let hint = "use lower case letters, digits, `-` and `.`, at most 253 of them";
            desk.problems.push(problem.hint(hint));
        }
        listeners.extend(listener::compile(document, &field, listener, desk));
    }
    distinct_addresses(document, spec, desk);
    listeners
}

/// Every server needs an address of its own; port 0 is a new one each time.
fn distinct_addresses(document: &Document, spec: &ProxySpec, desk: &mut Desk<'_>) {
    let servers = [("spec.admin", &spec.admin), ("spec.health", &spec.health)];
    let servers = servers.iter().filter_map(|(field, server)| {
        Some(((*field).to_owned(), server.as_ref()?.address.as_str()))
    });
    let listeners = spec.listeners.iter().enumerate();
    let listeners = listeners
        .map(|(index, listener)| (format!("spec.listeners[{index}]"), listener.address.as_str()));
    let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
    for (field, address) in listeners.chain(servers) {
        let Ok(address) = words::socket(address) else { continue };
        if address.port() == 0 {
            continue;
        }
        if let Some(first) = taken.get(&address) {
            let title = format!("the address {address} is taken");
            let problem = document.problem(Code::P0111, &format!("{field}.address"), title);
            desk.problems.push(problem.hint(format!("{first} has it; choose another port")));
            continue;
        }
        taken.insert(address, field);
    }
}

/// Limits and access log.
pub(super) fn settings(document: &Document) -> Option<(Limits, Option<AccessLog>)> {
    let spec = spec(document)?;
    let (given, standard) = (&spec.limits, Limits::default());
    let limits = Limits {
        request_header_bytes: given
            .request_header_bytes
            .map_or(standard.request_header_bytes, |size| size.get()),
        connections: given.connections.map_or(standard.connections, |count| count as usize),
        request_header_timeout: given
            .request_header_timeout
            .map_or(standard.request_header_timeout, |time| time.get()),
        idle_timeout: given.idle_timeout.map_or(standard.idle_timeout, |time| time.get()),
    };
    Some((limits, spec.access_log.as_ref().map(access_log)))
}

fn access_log(spec: &AccessLogSpec) -> AccessLog {
    AccessLog {
        format: match spec.format {
            LogFormat::Json => AccessLogFormat::Json,
            LogFormat::Text => AccessLogFormat::Text,
        },
        path: spec.path.clone().unwrap_or_else(|| "stdout".to_owned()),
        filter: spec.filter.clone(),
        fields: spec.fields.clone(),
    }
}

/// What [`settings`] takes for granted.
fn check_settings(document: &Document, spec: &ProxySpec, desk: &mut Desk<'_>) {
    let filter = spec.access_log.as_ref().and_then(|log| log.filter.as_deref());
    if let Some(Err(reason)) = filter.map(AccessLogger::check_filter) {
        let title = "the filter of the access log cannot be used";
        let problem = document.problem(Code::P0111, "spec.accessLog.filter", title);
        let hint = "a CEL expression over the attributes, such as \"response.code >= 500\"";
        desk.problems.push(problem.because(reason).hint(hint));
    }
    for (name, source) in spec.access_log.iter().flat_map(|log| &log.fields) {
        if !AccessLogger::is_field_name(name) {
            let title = format!("{name:?} cannot be the name of a field");
            let problem = document.problem(Code::P0111, "spec.accessLog.fields", title);
            desk.problems.push(problem.hint("use letters, digits, `_` and `-`"));
            continue;
        }
        let Err(reason) = AccessLogger::check_field(name, source) else { continue };
        let path = format!("spec.accessLog.fields.{name}");
        let title = "a field of the access log cannot be used";
        let problem = document.problem(Code::P0111, &path, title);
        let hint = "a CEL expression over the attributes, such as \"wasm.tier\"";
        desk.problems.push(problem.because(reason).hint(hint));
    }
    if spec.limits.request_header_bytes.is_some_and(|size| size.get() < LEAST_HEADER_BYTES) {
        let title = "a limit this small cannot be kept";
        let problem = document.problem(Code::P0111, "spec.limits.requestHeaderBytes", title);
        let cause = "connections read at least 8Ki at once";
        desk.problems.push(problem.because(cause).hint("use at least 8Ki"));
    }
    let zeros = [
        ("connections", spec.limits.connections == Some(0)),
        (
            "requestHeaderTimeout",
            spec.limits.request_header_timeout.is_some_and(|time| time.nonzero().is_none()),
        ),
    ];
    for (name, _) in zeros.iter().filter(|(_, zero)| *zero) {
        let field = format!("spec.limits.{name}");
        let problem = document.problem(Code::P0111, &field, "a limit of zero lets nothing pass");
        desk.problems.push(problem.hint("leave it out for the default"));
    }
}
