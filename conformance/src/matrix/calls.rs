//! The calls of each ABI version, as the probe names them: `FUNCTION`, or `FUNCTION:WHICH` where an argument chooses.

use super::phases::{Phase, Way};
use super::trace;

const MAPS: [&str; 9] = [
    "request_headers",
    "request_trailers",
    "response_headers",
    "response_trailers",
    "grpc_initial_metadata",
    "grpc_trailing_metadata",
    "call_headers",
    "call_trailers",
    "unknown",
];
const BUFFERS: [&str; 10] = [
    "request_body",
    "response_body",
    "downstream_data",
    "upstream_data",
    "call_body",
    "grpc_message",
    "vm_configuration",
    "plugin_configuration",
    "call_data",
    "unknown",
];
const STREAMS: [&str; 5] = ["request", "response", "downstream", "upstream", "unknown"];
const OF_MAPS: [&str; 7] = [
    "get_header_map_size",
    "get_header_map_pairs",
    "get_header_map_value",
    "set_header_map_pairs",
    "add_header_map_value",
    "replace_header_map_value",
    "remove_header_map_value",
];
const OF_BUFFERS: [&str; 3] = ["get_buffer_bytes", "set_buffer_bytes", "get_buffer_status"];
const OF_STREAMS: [&str; 2] = ["continue_stream", "close_stream"];
const PLAIN: [&str; 37] = [
    "log",
    "get_log_level",
    "get_current_time_nanoseconds",
    "set_tick_period_milliseconds",
    "set_effective_context:root",
    "set_effective_context:stream",
    "set_effective_context:unknown",
    "done",
    "send_local_response",
    "http_call",
    "grpc_call",
    "grpc_stream",
    "grpc_send",
    "grpc_cancel",
    "grpc_close",
    "get_status",
    "get_shared_data",
    "set_shared_data",
    "register_shared_queue",
    "resolve_shared_queue",
    "enqueue_shared_queue",
    "dequeue_shared_queue",
    "define_metric",
    "increment_metric",
    "record_metric",
    "get_metric",
    "get_property:plugin_name",
    "get_property:request.path",
    "get_property:request.method",
    "get_property:response.code",
    "get_property:source.address",
    "get_property:connection.mtls",
    "get_property:unknown",
    "set_property",
    "call_foreign_function:compress",
    "call_foreign_function:clear_route_cache",
    "call_foreign_function:unknown",
];

/// In the place of a call: all that an older version has and the phase has no cell for.
pub const REST: &str = "*";

/// Phases in which older versions make every call, so as to show that they are the same functions.
const PROVING: [&str; 2] = ["tick", "request_headers"];

/// The calls to make in a phase.
#[must_use]
pub fn calls(abi: &str, phase: &Phase) -> Vec<String> {
    if phase.way == Way::Trace {
        return trace::calls();
    }
    if abi == "0.2.1" {
        return newest(phase);
    }
    let mut own = match (phase.way, abi) {
        (Way::Alone, _) => Vec::new(),
        (_, "0.2.0") => with(&OF_STREAMS, &STREAMS),
        _ => oldest(),
    };
    if PROVING.contains(&phase.name) {
        let shared = newest(phase).into_iter().filter(|call| has(abi, call));
        let new: Vec<String> = shared.filter(|call| !own.contains(call)).collect();
        own.extend(new);
    } else {
        own.push(REST.to_owned());
    }
    own
}

fn has(abi: &str, call: &str) -> bool {
    let of_streams = OF_STREAMS.iter().any(|function| call.starts_with(function));
    call != "get_log_level" && (abi != "0.1.0" || !of_streams)
}

fn with(functions: &[&str], which: &[&str]) -> Vec<String> {
    let both = |function| which.iter().map(move |which| format!("{function}:{which}"));
    functions.iter().flat_map(both).collect()
}

/// One argument for each function where a host ends guests over any of them.
fn newest(phase: &Phase) -> Vec<String> {
    let many = phase.way != Way::Alone;
    let take = |all: &'static [&'static str]| if many { all } else { &all[..1] };
    let mut all: Vec<String> = PLAIN.iter().map(ToString::to_string).collect();
    all.extend(with(&OF_MAPS, take(&MAPS)));
    all.extend(with(&OF_BUFFERS, take(&BUFFERS)));
    all.extend(with(&OF_STREAMS, take(&STREAMS)));
    all
}

/// What later versions do not have, and what they answer otherwise: a header that is not there.
fn oldest() -> Vec<String> {
    let own = ["get_configuration", "continue_request", "continue_response", "clear_route_cache"];
    let mut all: Vec<String> = own.into_iter().map(str::to_owned).collect();
    all.extend(with(&["get_header_map_value"], &MAPS));
    all
}
