//! Documents to snapshots: a golden folder holds documents and the snapshot they become, as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use portcullis::plan::{ModuleError, ModuleRequest, Modules, Planned, Source, beside, plan};
use portcullis_proxy::Snapshot;
use portcullis_proxy::snapshot::{Match, PathMatch, RouteFilter, Rule, ValueMatch};
use portcullis_vm::{Engine, Module};

use super::golden::{compare, folder, stage};

struct Disk(Engine);

impl Modules for Disk {
    fn module(&self, request: &ModuleRequest<'_>) -> Result<Arc<Module>, ModuleError> {
        let path = beside(request.source, request.url.strip_prefix("file://").unwrap());
        let bytes = fs::read(path).unwrap();
        Ok(Arc::new(Module::load(&self.0, &bytes, None)?))
    }

    fn file(&self, source: &str, path: &str) -> Result<Bytes, String> {
        fs::read(beside(source, path)).map(Bytes::from).map_err(|error| error.to_string())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "REGION").then(|| "north".to_owned())
    }
}

fn planned(stage: &Path, proxy: Option<&str>) -> Planned {
    let sources: BTreeMap<String, String> = fs::read_dir(stage)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
        .collect();
    let source = |(name, text): (String, String)| Source {
        name: name.into(),
        text: text.into(),
        ..Source::default()
    };
    let sources: Vec<Source> = sources.into_iter().map(source).collect();
    plan(&sources, proxy, &Disk(Engine::new().unwrap()))
}

/// Plans the folder and compares snapshot, notes and problems with `expected.txt`.
fn check(name: &str, proxy: Option<&str>) {
    let stage = stage(name);
    let planned = planned(stage.path(), proxy);
    let mut text = String::new();
    if let Some(snapshot) = &planned.snapshot {
        assert_eq!(snapshot.check(), Ok(()));
        text += &outline(snapshot);
    }
    for note in &planned.notes {
        writeln!(text, "note: {}: {}", note.object, note.text).unwrap();
    }
    for problem in &planned.problems {
        let object = problem.object.as_deref().unwrap_or("-");
        writeln!(text, "{}: {object}: {}", problem.code, problem.title).unwrap();
    }
    compare(&folder(name).join("expected.txt"), &text);
}

fn outline(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let filter = |index: &usize| snapshot.filters[*index].name.to_string();
    for listener in &snapshot.listeners {
        let chain: Vec<String> = listener.filters.iter().map(filter).collect();
        let tls = if listener.tls.is_some() { " tls" } else { "" };
        writeln!(
            text,
            "listener {} {} {:?} {:?}{tls} hops {} chain {chain:?}",
            listener.name,
            listener.address,
            listener.protocol,
            listener.direction,
            listener.trusted_hops
        )
        .unwrap();
    }
    for backend in &snapshot.backends {
        let tls = if backend.tls.is_some() { " tls" } else { "" };
        writeln!(text, "backend {} {:?}{tls}", backend.name, backend.protocol).unwrap();
        for endpoint in &backend.endpoints {
            writeln!(text, "  {:?} weight {}", endpoint.address, endpoint.weight).unwrap();
        }
    }
    for filter in &snapshot.filters {
        let plugin = &filter.plugin;
        writeln!(
            text,
            "filter {} {:?} {:?} {:?} {:?}\n  root {:?} vm {:?} config {:?} env {:?} stop {}\n  {:?}",
            filter.name,
            filter.fail,
            filter.isolation,
            filter.allow_calls,
            filter.log_level,
            plugin.root_id,
            plugin.vm_id,
            plugin.configuration,
            plugin.environment,
            plugin.allow_on_headers_stop_iteration,
            plugin.limits
        )
        .unwrap();
    }
    for route in &snapshot.routes {
        let on: Vec<_> =
            route.listeners.iter().map(|index| snapshot.listeners[*index].name.as_str()).collect();
        writeln!(
            text,
            "route {} {:?} on {on:?} hosts {:?}",
            route.name, route.kind, route.hostnames
        )
        .unwrap();
        route.rules.iter().for_each(|rule| outline_rule(&mut text, snapshot, rule));
    }
    for route in &snapshot.tcp_routes {
        let on: Vec<_> =
            route.listeners.iter().map(|index| snapshot.listeners[*index].name.as_str()).collect();
        writeln!(text, "bytes {} on {on:?} hosts {:?}", route.name, route.hostnames).unwrap();
        for share in &route.backends {
            writeln!(text, "  {} {:?} {}", share.weight, share.backend, share.reference).unwrap();
        }
    }
    writeln!(text, "limits {:?}\naccess log {:?}", snapshot.limits, snapshot.access_log).unwrap();
    text
}

fn outline_rule(text: &mut String, snapshot: &Snapshot, rule: &Rule) {
    writeln!(text, "  rule {}", rule.name).unwrap();
    if let Some(reason) = &rule.broken {
        writeln!(text, "    broken: {reason}").unwrap();
    }
    for one in &rule.matches {
        writeln!(text, "    match{}", outline_match(one)).unwrap();
    }
    let edit = |filter: &RouteFilter| match filter {
        RouteFilter::Wasm(index) => format!("Wasm {}", snapshot.filters[*index].name),
        other => format!("{other:?}"),
    };
    for filter in &rule.filters {
        writeln!(text, "    filter {}", edit(filter)).unwrap();
    }
    if rule.timeouts.request.is_some() || rule.timeouts.backend_request.is_some() {
        writeln!(text, "    {:?}", rule.timeouts).unwrap();
    }
    if let Some(retry) = &rule.retry {
        writeln!(text, "    {retry:?}").unwrap();
    }
    for share in &rule.backends {
        let backend = share.backend.map(|index| snapshot.backends[index].name.to_string());
        let edits: Vec<String> = share.filters.iter().map(edit).collect();
        writeln!(
            text,
            "    to {} = {backend:?} weight {} {edits:?}",
            share.reference, share.weight
        )
        .unwrap();
    }
}

fn outline_match(one: &Match) -> String {
    let value = |value: &ValueMatch| match value {
        ValueMatch::Exact(text) => format!("= {text}"),
        ValueMatch::Regex(regex) => format!("~ {}", regex.as_str()),
    };
    let mut text = match &one.path {
        None => String::new(),
        Some(PathMatch::Exact(path)) => format!(" path = {path}"),
        Some(PathMatch::Prefix(path)) => format!(" path {path}…"),
        Some(PathMatch::Regex(regex)) => format!(" path ~ {}", regex.as_str()),
    };
    if let Some(grpc) = &one.grpc {
        let part = |part: &Option<ValueMatch>| part.as_ref().map_or("any".to_owned(), value);
        text += &format!(" service {} method {}", part(&grpc.service), part(&grpc.method));
    }
    if let Some(method) = &one.method {
        text += &format!(" method {method}");
    }
    for header in &one.headers {
        text += &format!(" header {} {}", header.name, value(&header.value));
    }
    for query in &one.query {
        text += &format!(" query {} {}", query.name, value(&query.value));
    }
    text
}

#[test]
fn every_field_of_our_own_kinds_has_its_effect() {
    check("plan/own", None);
}

#[test]
fn routes_mean_what_the_gateway_api_says() {
    check("plan/routes", None);
}

#[test]
fn filters_stand_in_istio_s_order_on_the_listeners_they_select() {
    check("plan/filters", Some("sidecar"));
}

#[test]
fn rules_that_cannot_work_are_broken_and_the_rest_serves() {
    check("plan/broken", None);
}

#[test]
fn what_speaks_no_http_gets_its_own_routes_and_filters() {
    check("plan/tcp", None);
}

#[test]
fn used_files_are_known_whether_they_are_there_or_not() {
    let source = Source {
        name: "conf/proxy.yaml".into(),
        text: "apiVersion: portcullis.dev/v1alpha1
kind: Proxy
metadata: {name: p}
spec:
  workers: 1
  admin: {address: \"127.0.0.1:19000\"}
  drain: {delay: 0s}
  listeners:
  - name: web
    address: \"127.0.0.1:0\"
    protocol: HTTPS
    tls: {certificateFile: tls/cert.pem, keyFile: /abs/key.pem}
"
        .into(),
        ..Source::default()
    };
    let planned = plan(&[source], None, &Disk(Engine::new().unwrap()));
    let files: Vec<_> = planned.used_files.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(files, ["/abs/key.pem", "conf/tls/cert.pem"]);
    assert!(planned.snapshot.is_none() && planned.process.is_none());
    assert_eq!(planned.problems.len(), 2);
}
