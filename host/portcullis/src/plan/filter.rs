//! WasmFilters and WasmPlugins: modules, plugin specifications, and the chains of listeners.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use portcullis_proxy::snapshot::{
    AllowCalls, FailStrategy, Filter, FilterIndex, Listener, ListenerDirection,
};
use portcullis_vm::{Digest, LogLevel, Node, PluginSpec};

use super::catalogue::Catalogue;
use super::desk::Desk;
use super::trust::Demands;
use super::{Registry, attach, futile, limits, module, words};
use crate::diagnose::Code;
use crate::spec::filter::WasmFilterSpec;
use crate::spec::filter::{self as written, Attach, Mode, Phase, PluginType, ValueFrom};
use crate::spec::route::ParentRef;
use crate::spec::{Document, Object, Reach};

const OURS: &str = "portcullis.dev";
/// Objects of these namespaces concern every proxy.
const ROOT_NAMESPACES: [&str; 2] = ["portcullis-system", "istio-system"];

/// What filters and routes are attached to.
pub(super) struct Host<'a> {
    pub proxy: Option<&'a Document>,
    pub listeners: &'a [Listener],
    /// `None`: it is not known how modules may be fetched.
    pub registries: Option<Arc<[Registry]>>,
}

/// A filter that is right and that something here may run.
struct Placed {
    filter: Arc<Filter>,
    attach: Attach,
    order: (Phase, Reverse<i32>, String, String),
    /// Indices of listeners.
    listeners: BTreeSet<usize>,
}

/// The filters that are right, by namespace and name.
#[derive(Default)]
pub(super) struct Filters {
    all: Vec<Placed>,
    by_name: BTreeMap<String, FilterIndex>,
}

impl Filters {
    pub fn get(&self, key: &str) -> Option<FilterIndex> {
        self.by_name.get(key).copied()
    }

    pub fn into_filters(self) -> Vec<Arc<Filter>> {
        self.all.into_iter().map(|placed| placed.filter).collect()
    }
}

/// `listeners` with their chains.
pub(super) fn attached(mut listeners: Vec<Listener>, filters: &Filters) -> Vec<Arc<Listener>> {
    let mut order: Vec<(FilterIndex, &Placed)> = filters.all.iter().enumerate().collect();
    order.sort_by_key(|(_, placed)| &placed.order);
    for (index, listener) in listeners.iter_mut().enumerate() {
        let here = order.iter().filter(|(_, placed)| placed.listeners.contains(&index));
        listener.filters = here.map(|(filter, _)| *filter).collect();
    }
    listeners.into_iter().map(Arc::new).collect()
}

pub(super) fn compile(catalogue: &Catalogue, host: &Host<'_>, desk: &mut Desk<'_>) -> Filters {
    let pick = |object: &Object| match object {
        Object::WasmFilter(spec) => Some(spec.as_ref().clone()),
        Object::WasmPlugin(spec) => Some(spec.as_ref().clone().into()),
        _ => None,
    };
    let node: Arc<Node> = Arc::new(host.proxy.map(node).unwrap_or_default());
    let demands = Demands::of_proxy(host.proxy, desk);
    let mut all = Vec::new();
    for (document, spec) in catalogue.objects_of(pick) {
        if let Some(reason) = host.proxy.and_then(|proxy| foreign(document, &spec, proxy)) {
            // What somebody else's filter needs may be out of our reach.
            desk.note(document, "spec.selector", reason);
            continue;
        }
        futile::fields(document, &spec, desk);
        futile::calls(document, &spec, catalogue, desk);
        let demands = demands.with(document, spec.verification.as_ref(), desk);
        let filter = one(document, &spec, (host, &demands), desk);
        let filter = filter.filter(|_| !desk.has_error_of(document));
        let listeners = listeners(document, &spec, (host, catalogue), desk);
        let concerned = spec.attach == Attach::Route || !listeners.is_empty();
        if let (Some(filter), true) = (filter, concerned) {
            let (name, namespace) = (document.name.clone(), document.namespace.clone());
            let order = (spec.phase, Reverse(spec.priority), name, namespace);
            let filter = Arc::new(Filter { node: node.clone(), ..filter });
            all.push(Placed { filter, attach: spec.attach, order, listeners });
        }
    }
    all.sort_by(|one, other| one.filter.name.cmp(&other.filter.name));
    let routed = all.iter().enumerate().filter(|(_, placed)| placed.attach == Attach::Route);
    let by_name = routed.map(|(index, placed)| (placed.filter.name.to_string(), index)).collect();
    Filters { all, by_name }
}

/// How filters see the proxy that they run in.
fn node(proxy: &Document) -> Node {
    let Document { name, namespace, labels, .. } = proxy;
    Node { name: name.clone(), namespace: namespace.clone(), labels: labels.clone() }
}

fn one(
    document: &Document,
    spec: &WasmFilterSpec,
    (host, demands): (&Host<'_>, &Demands),
    desk: &mut Desk<'_>,
) -> Option<Filter> {
    if spec.r#type == Some(PluginType::Network) && spec.attach == Attach::Route {
        let title = "a network filter belongs to a listener, not to routes";
        let problem = document.problem(Code::P0111, "spec.attach", title);
        desk.problems.push(problem.hint("use LISTENER, or type: HTTP"));
    }
    let sha256 = pin(document, spec, desk);
    let limits = limits::of_plugin(document, &spec.limits, desk);
    let isolation = limits::isolation(document, spec, desk);
    let environment = environment(document, &spec.vm_config.env, desk);
    let (module, url) = module::find(document, spec, (sha256, host, demands), desk)?;
    futile::module(document, spec, &module, desk);
    let name: Arc<str> = document.key().into();
    let vm_id = spec.vm_config.vm_id.clone().unwrap_or_else(|| name.to_string());
    let plugin = PluginSpec {
        name: name.clone(),
        root_id: spec.plugin_name.clone().unwrap_or_default(),
        vm_id,
        vm_configuration: Bytes::new(),
        configuration: configuration(spec),
        environment: environment?,
        limits: limits?,
        allow_on_headers_stop_iteration: spec.allow_on_headers_stop_iteration,
    };
    Some(Filter {
        name,
        url,
        module,
        plugin: Arc::new(plugin),
        fail: match spec.fail_strategy {
            written::FailStrategy::Open => FailStrategy::Open,
            written::FailStrategy::Close | written::FailStrategy::Reload => FailStrategy::Close,
        },
        isolation: isolation?,
        allow_calls: match &spec.allow.calls {
            None if module::is_remote(&spec.url) => AllowCalls::Only(BTreeSet::new()),
            None => AllowCalls::Everything,
            Some(names) => AllowCalls::Only(names.iter().cloned().collect()),
        },
        log_level: log_level(spec.log_level),
        node: Arc::default(),
    })
}

fn pin(document: &Document, spec: &WasmFilterSpec, desk: &mut Desk<'_>) -> Option<Digest> {
    let digest = words::digest(spec.sha256.as_deref().filter(|text| !text.is_empty())?);
    digest
        .map_err(|hint| {
            let title = "this is not a SHA-256 digest";
            desk.problems.push(document.problem(Code::P0111, "spec.sha256", title).hint(hint));
        })
        .ok()
}

fn log_level(level: written::LogLevel) -> LogLevel {
    match level {
        written::LogLevel::Trace => LogLevel::Trace,
        written::LogLevel::Debug => LogLevel::Debug,
        written::LogLevel::Info => LogLevel::Info,
        written::LogLevel::Warn => LogLevel::Warn,
        written::LogLevel::Error => LogLevel::Error,
        written::LogLevel::Critical => LogLevel::Critical,
    }
}

fn configuration(spec: &WasmFilterSpec) -> Bytes {
    match &spec.plugin_config {
        None => Bytes::new(),
        Some(serde_json::Value::String(text)) => text.clone().into(),
        Some(value) => value.to_string().into(),
    }
}

fn environment(
    document: &Document,
    env: &[written::Variable],
    desk: &mut Desk<'_>,
) -> Option<Vec<(String, String)>> {
    let mut variables = Some(Vec::new());
    for (index, variable) in env.iter().enumerate() {
        let field = format!("spec.vmConfig.env[{index}]");
        let value = match variable.value_from {
            ValueFrom::Host => Some(desk.modules.variable(&variable.name).unwrap_or_default()),
            ValueFrom::Inline => variable.value.clone(),
        };
        let bad_name = variable.name.is_empty() || variable.name.contains(['=', '\0']);
        match value {
            Some(value) if !bad_name && !value.contains('\0') => {
                if let Some(variables) = &mut variables {
                    variables.push((variable.name.clone(), value));
                }
            }
            Some(_) => {
                let title = "this is not a variable of an environment";
                let problem = document.problem(Code::P0111, &field, title);
                desk.problems.push(problem.hint("a name without `=`, a value without zero bytes"));
                variables = None;
            }
            None => {
                let field = format!("{field}.value");
                let problem = document.problem(Code::P0108, &field, "the field `value` is missing");
                desk.problems.push(problem.hint("add it, or use valueFrom: HOST"));
                variables = None;
            }
        }
    }
    variables
}

/// The listeners whose chain the filter joins.
fn listeners(
    document: &Document,
    spec: &WasmFilterSpec,
    (host, catalogue): (&Host<'_>, &Catalogue),
    desk: &mut Desk<'_>,
) -> BTreeSet<usize> {
    if spec.attach == Attach::Route {
        return BTreeSet::new();
    }
    let wants = match spec.r#type {
        Some(PluginType::Network) => &attach::NETWORK_FILTER,
        Some(PluginType::Http | PluginType::Unspecified) | None => &attach::HTTP_FILTER,
    };
    let targeted = match &spec.target_refs {
        Some(refs) => {
            known_proxies(document, refs, catalogue, desk);
            attach::parents(document, "spec.targetRefs", refs, wants, host, desk)
        }
        None => attach::all(wants, host),
    };
    if targeted.is_empty() && spec.target_refs.is_none() && !host.listeners.is_empty() {
        let title = "no listener of this proxy takes filters of this type; the filter runs nowhere";
        desk.problems.push(document.problem(Code::P0115, "spec.type", title).warning());
    }
    let matching = |index: &usize| {
        let listener = host.listeners.get(*index);
        listener.is_some_and(|listener| matches(&spec.r#match, listener))
    };
    let found: BTreeSet<usize> = targeted.iter().copied().filter(matching).collect();
    if found.is_empty() && !targeted.is_empty() {
        let title = "no listener of this proxy matches; the filter runs nowhere";
        desk.problems.push(document.problem(Code::P0105, "spec.match", title).warning());
    }
    found
}

/// A filter that protects a Proxy of a misspelt name would protect nothing, silently.
fn known_proxies(
    document: &Document,
    refs: &[ParentRef],
    catalogue: &Catalogue,
    desk: &mut Desk<'_>,
) {
    for (index, parent) in refs.iter().enumerate() {
        let ours = parent.group.as_deref().unwrap_or(OURS) == OURS
            && parent.kind.as_deref().unwrap_or("Proxy") == "Proxy";
        let namespace = parent.namespace.as_deref().unwrap_or(&document.namespace);
        let wanted = ("Proxy", namespace, parent.name.as_str());
        if ours && catalogue.get(wanted.0, wanted.1, wanted.2).is_none() {
            let field = format!("spec.targetRefs[{index}].name");
            let problem = catalogue.dangling(document, &field, wanted, desk);
            desk.problems.push(problem);
        }
    }
}

/// Why Istio's rules keep this object away from `proxy`.
fn foreign(document: &Document, spec: &WasmFilterSpec, proxy: &Document) -> Option<String> {
    let labels = spec.selector.iter().flat_map(|selector| &selector.match_labels);
    let differs = |(name, value): &(&String, &String)| proxy.labels.get(*name) != Some(value);
    if let Some((name, value)) = labels.into_iter().find(differs) {
        return Some(format!("does not select this proxy: it lacks the label {name}={value}"));
    }
    let near = document.namespace == proxy.namespace
        || document.reach == Reach::Mesh
        || ROOT_NAMESPACES.contains(&document.namespace.as_str());
    (document.kind == "WasmPlugin" && !near)
        .then(|| format!("does not select this proxy, which is in namespace {}", proxy.namespace))
}

fn matches(selectors: &[written::TrafficSelector], listener: &Listener) -> bool {
    let client = listener.direction == ListenerDirection::Outbound;
    let holds = |selector: &written::TrafficSelector| {
        let mode = match selector.mode {
            Mode::Undefined | Mode::ClientAndServer => true,
            Mode::Client => client,
            Mode::Server => !client,
        };
        let port = listener.address.port();
        mode && (selector.ports.is_empty()
            || selector.ports.iter().any(|allowed| allowed.number == port))
    };
    selectors.is_empty() || selectors.iter().any(holds)
}
