//! Every callback that a host may call: notes it, fills its cells, and keeps the exchange going so that the next phase comes.

use crate::{at, host, state};

const CONTINUE: u32 = 0;
const PAUSE: u32 = 1;

/// A callback begins: its line in a trace, and its cells.
fn called(context: u32, phase: &str, name: &str, arguments: &[(&str, u32)]) {
    state::enter(context);
    trace(context, name, arguments);
    at(phase);
}

/// Counts of headers depend on what a host adds; sizes and ends do not.
fn trace(context: u32, name: &str, arguments: &[(&str, u32)]) {
    if !state::tracing() {
        return;
    }
    let stream = if state::is_connected() { "connection" } else { "stream" };
    let who = if context == state::root() { "plugin" } else { stream };
    let word = |(name, value): &(&str, u32)| match *name {
        "headers" => format!(" headers {}", if *value > 0 { "some" } else { "none" }),
        name => format!(" {name} {value}"),
    };
    let words: String = arguments.iter().map(word).collect();
    host::say(&format!("callback {name} {who}{words}"));
}

unsafe extern "C" {
    fn __wasm_call_ctors();
}

#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    // SAFETY: once, before anything else, as the linker expects it.
    unsafe { __wasm_call_ctors() };
    state::begin();
    trace(0, "_initialize", &[]);
    at("initialize");
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let memory = Vec::<u8>::with_capacity(size).leak().as_mut_ptr();
    at("memory_allocate");
    memory
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
    if parent == 0 {
        state::set_root(context);
        called(context, "plugin_context_create", "proxy_on_context_create", &[("parent", 0)]);
    } else {
        let phase = of(context, ["context_create", "connection_create", ""]);
        called(context, phase, "proxy_on_context_create", &[("parent", parent)]);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_vm_start(root: u32, size: u32) -> u32 {
    called(root, "vm_start", "proxy_on_vm_start", &[("size", size)]);
    1
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_configure(root: u32, size: u32) -> u32 {
    called(root, "configure", "proxy_on_configure", &[("size", size)]);
    host::set_tick_period(state::TICK);
    state::register_queue();
    1
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_tick(root: u32) {
    state::enter(root);
    if state::waits("tick") {
        called(root, "tick", "proxy_on_tick", &[]);
        resume();
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_queue_ready(root: u32, queue: u32) {
    called(root, "queue_ready", "proxy_on_queue_ready", &[("queue", u32::from(queue != 0))]);
    resume();
}

#[cfg(not(feature = "abi-0-1-0"))]
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(context: u32, headers: u32, end: u32) -> u32 {
    request_headers(context, &[("headers", headers), ("end", end)])
}

#[cfg(feature = "abi-0-1-0")]
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(context: u32, headers: u32) -> u32 {
    request_headers(context, &[("headers", headers)])
}

/// Learns the cells of this exchange and sets off what leads to their phases.
fn request_headers(context: u32, arguments: &[(&str, u32)]) -> u32 {
    state::enter(context);
    state::arm(&host::header(0, "x-cells").1);
    called(context, "request_headers", "proxy_on_request_headers", arguments);
    let mut id = 0;
    if state::waits("memory_allocate") {
        host::header(0, "x-value");
    }
    if state::waits("queue_ready") {
        host::enqueue(state::queue(), b"wake".as_ptr(), 4);
        return PAUSE;
    }
    if state::waits("tick") {
        return PAUSE;
    }
    if state::waits("http_call_response") && state::http_call(&mut id) == 0 {
        return PAUSE;
    }
    if state::waits("grpc_") && state::grpc_stream(&mut id) == 0 {
        host::grpc_send(id, b"ping".as_ptr(), 4, 1);
        return PAUSE;
    }
    CONTINUE
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_body(context: u32, size: u32, end: u32) -> u32 {
    called(context, "request_body", "proxy_on_request_body", &[("size", size), ("end", end)]);
    CONTINUE
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_trailers(context: u32, count: u32) -> u32 {
    called(context, "request_trailers", "proxy_on_request_trailers", &[("count", count)]);
    CONTINUE
}

#[cfg(not(feature = "abi-0-1-0"))]
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_response_headers(context: u32, headers: u32, end: u32) -> u32 {
    let arguments = [("headers", headers), ("end", end)];
    called(context, "response_headers", "proxy_on_response_headers", &arguments);
    CONTINUE
}

#[cfg(feature = "abi-0-1-0")]
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_response_headers(context: u32, headers: u32) -> u32 {
    called(context, "response_headers", "proxy_on_response_headers", &[("headers", headers)]);
    CONTINUE
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_response_body(context: u32, size: u32, end: u32) -> u32 {
    called(context, "response_body", "proxy_on_response_body", &[("size", size), ("end", end)]);
    CONTINUE
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_response_trailers(context: u32, count: u32) -> u32 {
    called(context, "response_trailers", "proxy_on_response_trailers", &[("count", count)]);
    CONTINUE
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_http_call_response(
    root: u32,
    _call: u32,
    headers: u32,
    body: u32,
    trailers: u32,
) {
    let stream = state::stream();
    let arguments = [("headers", headers), ("body", body), ("trailers", trailers)];
    called(root, "http_call_response", "proxy_on_http_call_response", &arguments);
    host::set_effective_context(stream);
    state::enter(stream);
    at("http_call_response_of_stream");
    resume();
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_grpc_receive_initial_metadata(root: u32, _call: u32, count: u32) {
    let name = "proxy_on_grpc_receive_initial_metadata";
    called(root, "grpc_receive_initial_metadata", name, &[("headers", count)]);
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_grpc_receive(root: u32, _call: u32, size: u32) {
    called(root, "grpc_receive", "proxy_on_grpc_receive", &[("size", size)]);
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_grpc_receive_trailing_metadata(root: u32, _call: u32, count: u32) {
    let name = "proxy_on_grpc_receive_trailing_metadata";
    called(root, "grpc_receive_trailing_metadata", name, &[("headers", count)]);
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_grpc_close(root: u32, _call: u32, status: u32) {
    called(root, "grpc_close", "proxy_on_grpc_close", &[("status", status)]);
    resume();
}

/// The exchange that waits for this callback goes on.
fn resume() {
    host::set_effective_context(state::stream());
    #[cfg(not(feature = "abi-0-1-0"))]
    host::continue_stream(0);
    #[cfg(feature = "abi-0-1-0")]
    host::continue_request();
}

#[cfg(not(feature = "abi-0-1-0"))]
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_foreign_function(context: u32, function: u32, size: u32) {
    let arguments = [("function", function), ("size", size)];
    called(context, "foreign_function", "proxy_on_foreign_function", &arguments);
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_new_connection(context: u32) -> u32 {
    called(context, "new_connection", "proxy_on_new_connection", &[]);
    CONTINUE
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_downstream_data(context: u32, size: u32, end: u32) -> u32 {
    state::enter(context);
    let mut out = host::Out::default();
    host::get_buffer(2, 0, u32::MAX, &mut out.pointer, &mut out.size);
    if let Some(cells) = out.text().strip_prefix("cells ") {
        state::arm(cells);
    }
    called(context, "downstream_data", "proxy_on_downstream_data", &[("size", size), ("end", end)]);
    CONTINUE
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_upstream_data(context: u32, size: u32, end: u32) -> u32 {
    called(context, "upstream_data", "proxy_on_upstream_data", &[("size", size), ("end", end)]);
    CONTINUE
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_downstream_connection_close(context: u32, peer: u32) {
    let name = "proxy_on_downstream_connection_close";
    called(context, "downstream_connection_close", name, &[("peer", peer)]);
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_upstream_connection_close(context: u32, peer: u32) {
    let name = "proxy_on_upstream_connection_close";
    called(context, "upstream_connection_close", name, &[("peer", peer)]);
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_done(context: u32) -> u32 {
    called(context, of(context, ["done", "connection_done", "plugin_done"]), "proxy_on_done", &[]);
    1
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_log(context: u32) {
    called(context, of(context, ["log", "connection_log", "plugin_log"]), "proxy_on_log", &[]);
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_delete(context: u32) {
    called(context, of(context, ["delete", "connection_delete", "plugin_delete"]), "proxy_on_delete", &[]);
}

/// One callback is another phase for an exchange, a connection and a plugin.
fn of(context: u32, [exchange, connection, plugin]: [&'static str; 3]) -> &'static str {
    match context {
        id if id == state::root() => plugin,
        _ if state::is_connected() => connection,
        _ => exchange,
    }
}
