//! What a filter says or is to no effect: fields that mean nothing where it stands, calls to nobody, a module that calls
//! what does nothing or that no exchange reaches.
//!
//! All of these are warnings; nothing here changes what the filter becomes.

use portcullis_vm::Module;

use super::catalogue::Catalogue;
use super::desk::Desk;
use crate::diagnose::{Code, nearest};
use crate::spec::Document;
use crate::spec::filter::{PluginType, PullPolicy, WasmFilterSpec};

const HTTP: [&str; 6] = [
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
];
const CONNECTION: [&str; 5] = [
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_connection_close",
];
/// Work of either type: a logger, or one that only keeps something up to date.
const BESIDE: [&str; 3] = ["proxy_on_log", "proxy_on_tick", "proxy_on_queue_ready"];

/// Fields that are read and then mean nothing.
pub(super) fn fields(document: &Document, spec: &WasmFilterSpec, desk: &mut Desk<'_>) {
    let file = spec.url.starts_with("file://");
    let policy = spec.image_pull_policy.unwrap_or_default() != PullPolicy::Unspecified;
    let secret = spec.image_pull_secret.as_ref().is_some_and(|name| !name.is_empty());
    let network = spec.r#type == Some(PluginType::Network);
    let web = spec.url.starts_with("https://") || spec.url.starts_with("http://");
    let (from_file, of_network) = ("on a module from a file", "on a network filter");
    let futile = [
        ("imagePullPolicy", file && policy, from_file),
        ("imagePullSecret", file && secret, from_file),
        ("imagePullSecret", web && secret, "on a module that is no image"),
        (
            "allowOnHeadersStopIteration",
            network && spec.allow_on_headers_stop_iteration,
            of_network,
        ),
    ];
    for (name, _, place) in futile.iter().filter(|(_, futile, _)| *futile) {
        let title = format!("`{name}` has no effect {place}");
        let problem = document.problem(Code::P0117, &format!("spec.{name}"), title).warning();
        desk.problems.push(problem.hint("remove it"));
    }
}

/// Upstreams that it may call and that are not there.
pub(super) fn calls(
    document: &Document,
    spec: &WasmFilterSpec,
    catalogue: &Catalogue,
    desk: &mut Desk<'_>,
) {
    let backends = || catalogue.of("Backend");
    for (index, name) in spec.allow.calls.iter().flatten().enumerate() {
        // Istio's `outbound|PORT|SUBSET|HOST` is no name of a document.
        let istio = name.starts_with("outbound|");
        if istio || backends().any(|backend| backend.name == *name || backend.key() == *name) {
            continue;
        }
        let title = format!("there is no Backend {name}; calls to it fail");
        let field = format!("spec.allow.calls[{index}]");
        let mut problem = document.problem(Code::P0105, &field, title).warning().reference();
        if let [first, ..] = desk.unread.as_slice() {
            problem = problem.because(format!("{first} could not be read whole; it may be there"));
        }
        let known = backends().map(|backend| backend.name.as_str());
        desk.problems.push(match nearest(name, known) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint("add a document of kind Backend with this name"),
        });
    }
}

/// What the module and this host cannot do for one another.
pub(super) fn module(
    document: &Document,
    spec: &WasmFilterSpec,
    module: &Module,
    desk: &mut Desk<'_>,
) {
    stand_ins(document, module, desk);
    callbacks(document, spec, module, desk);
}

/// Functions that the module may call and that do nothing.
fn stand_ins(document: &Document, module: &Module, desk: &mut Desk<'_>) {
    let names = module.inspection().stand_ins();
    if names.is_empty() {
        return;
    }
    let title = format!("the module imports {}, which this host does not have", names.join(", "));
    let problem = document.problem(Code::P0210, "spec.url", title).warning();
    let cause = "each of them answers that it is not implemented";
    desk.problems.push(problem.because(cause).hint("build the filter without what needs them"));
}

/// A module that is never called for what the filter is attached to.
fn callbacks(document: &Document, spec: &WasmFilterSpec, module: &Module, desk: &mut Desk<'_>) {
    let exports = &module.inspection().exports;
    let has_any = |names: &[&str]| exports.iter().any(|export| names.contains(&&*export.name));
    let (own, seen, other, instead) = match spec.r#type {
        Some(PluginType::Network) => (&CONNECTION[..], "connections", &HTTP[..], "HTTP"),
        _ => (&HTTP[..], "HTTP exchanges", &CONNECTION[..], "NETWORK"),
    };
    if has_any(own) {
        return;
    }
    let title = format!("the module has no callback for {seen}; the filter sees none of them");
    if has_any(other) {
        let problem = document.problem(Code::P0211, "spec.type", title).warning();
        desk.problems.push(problem.hint(format!("it is made for type: {instead}")));
    } else if !has_any(&BESIDE) {
        let problem = document.problem(Code::P0211, "spec.url", title).warning();
        let hint = "is this the right file? `portcullis inspect` lists what a module exports";
        desk.problems.push(problem.hint(hint));
    }
}
