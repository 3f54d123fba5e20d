//! The callbacks themselves as cells: whether a host calls each, with which arguments, in which order.

use super::Cell;
use super::fill::Results;
use super::phases::CALLBACKS_PHASE;
use crate::host::Line;

/// Cells of the order in which a stream's, a connection's and a plugin's callbacks come.
const ORDER_OF_STREAM: &str = "order:stream";
const ORDER_OF_CONNECTION: &str = "order:connection";
const ORDER_OF_PLUGIN: &str = "order:plugin";

/// Exchanges that lead through every phase: each names what it waits for.
pub(super) const TOURS: [&str; 4] =
    ["tick/log", "queue_ready/log", "http_call_response/log", "grpc_close/log"];

/// The same of connections.
pub(super) const CONNECTED_TOURS: [&str; 1] = ["connection_delete/log"];

/// Every function that a host may call, except for the allocator: how often that is called is nobody's business.
pub(super) const CALLBACKS: [&str; 26] = [
    "_initialize",
    "proxy_on_context_create",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_queue_ready",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_http_call_response",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_grpc_close",
    "proxy_on_log",
    "proxy_on_done",
    "proxy_on_delete",
    "proxy_on_foreign_function",
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_connection_close",
];

/// The cells of one ABI version.
pub(super) fn calls() -> Vec<String> {
    let orders = [ORDER_OF_STREAM, ORDER_OF_CONNECTION, ORDER_OF_PLUGIN];
    orders.into_iter().chain(CALLBACKS).map(str::to_owned).collect()
}

/// What the lines of a trace say of each.
pub(super) fn results(abi: &'static str, lines: &[Line]) -> Results {
    let said: Vec<&str> =
        lines.iter().filter_map(|line| line.message.strip_prefix("callback ")).collect();
    let cell = |call: String| Cell { abi, phase: CALLBACKS_PHASE, call };
    let result = |call: &str| match call {
        ORDER_OF_STREAM => order(&said, "stream"),
        ORDER_OF_CONNECTION => order(&said, "connection"),
        ORDER_OF_PLUGIN => order(&said, "plugin"),
        name => arguments(&said, name),
    };
    calls().into_iter().map(|call| (cell(call.clone()).name(), result(&call))).collect()
}

/// Of the first stream or connection, or of the plugin; what depends on timers and servers is left out.
fn order(said: &[&str], who: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for line in said {
        let mut words = line.split(' ');
        let (Some(name), Some(whose)) = (words.next(), words.next()) else { continue };
        let depends = ["tick", "queue", "http_call", "grpc"].iter().any(|word| name.contains(word));
        let name = name.trim_start_matches("proxy_on_");
        if whose != who || depends {
            continue;
        }
        if !names.contains(&name) {
            names.push(name);
        }
        if who != "plugin" && name == "delete" {
            break;
        }
    }
    if names.is_empty() { NOT_CALLED.to_owned() } else { names.join(", ") }
}

const NOT_CALLED: &str = "not called";

/// Each set of arguments once, in the order of the calls.
fn arguments(said: &[&str], name: &str) -> String {
    let mut all: Vec<&str> = Vec::new();
    for line in said {
        let arguments = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
        if let Some(arguments) = arguments.filter(|arguments| !all.contains(arguments)) {
            all.push(arguments);
        }
    }
    if all.is_empty() { NOT_CALLED.to_owned() } else { all.join(" / ") }
}
