//! What the probe remembers between callbacks: which cells it is to fill, whose context it runs in, which calls are out.

use std::cell::{Cell, RefCell};

use crate::host::{self, pairs};

/// Milliseconds between two ticks.
pub const TICK: u32 = 5;

thread_local! {
    static CELLS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static ROOT: Cell<u32> = const { Cell::new(0) };
    static STREAM: Cell<u32> = const { Cell::new(0) };
    static CURRENT: Cell<u32> = const { Cell::new(0) };
    static TRACING: Cell<bool> = const { Cell::new(false) };
    static CONNECTED: Cell<bool> = const { Cell::new(false) };
    static QUEUE: Cell<u32> = const { Cell::new(0) };
}

/// Reads the environment: `CELLS`, `TRACE`, `KIND`.
pub fn begin() {
    arm(&std::env::var("CELLS").unwrap_or_default());
    TRACING.set(std::env::var("TRACE").is_ok());
    CONNECTED.set(std::env::var("KIND").is_ok_and(|kind| kind == "NETWORK"));
}

/// Cells to fill, `PHASE/CALL` each, with blanks in between.
pub fn arm(cells: &str) {
    CELLS.with_borrow_mut(|all| all.extend(cells.split_whitespace().map(str::to_owned)));
}

/// Whether a cell of a phase that begins so waits.
pub fn waits(phase: &str) -> bool {
    CELLS.with_borrow(|all| all.iter().any(|cell| cell.starts_with(phase)))
}

/// Takes the cells of a phase.
pub fn take(phase: &str) -> Vec<String> {
    let ours = |cell: &String| cell.split_once('/').is_some_and(|(of, _)| of == phase);
    CELLS.with_borrow_mut(|all| all.extract_if(.., |cell| ours(cell)).collect())
}

/// Whether every callback is logged.
pub fn tracing() -> bool {
    TRACING.get()
}

/// Whether its streams are connections, not exchanges.
pub fn is_connected() -> bool {
    CONNECTED.get()
}

/// The scope of shared things, as the host was told.
pub fn vm() -> String {
    std::env::var("VM").unwrap_or_default()
}

pub fn root() -> u32 {
    ROOT.get()
}

pub fn stream() -> u32 {
    STREAM.get()
}

pub fn current() -> u32 {
    CURRENT.get()
}

/// A callback for this context begins.
pub fn enter(context: u32) {
    CURRENT.set(context);
    if context != root() {
        STREAM.set(context);
    }
}

pub fn set_root(context: u32) {
    ROOT.set(context);
}

/// The queue whose elements are announced to the probe.
pub fn queue() -> u32 {
    QUEUE.get()
}

pub fn register_queue() {
    let (name, mut id) = ("probe-wakes", 0);
    host::register_queue(name.as_ptr(), name.len(), &mut id);
    QUEUE.set(id);
}

/// Calls the backend `aux`.
pub fn http_call(id: &mut u32) -> u32 {
    let upstream = "aux";
    let headers = pairs(&[
        (":method", "GET"),
        (":path", "/called"),
        (":authority", "aux.test"),
        (":scheme", "http"),
    ]);
    host::http_call(
        upstream.as_ptr(),
        upstream.len(),
        headers.as_ptr(),
        headers.len(),
        [].as_ptr(),
        0,
        [].as_ptr(),
        0,
        1000,
        id,
    )
}

/// Opens a stream to the backend `grpc`.
pub fn grpc_stream(id: &mut u32) -> u32 {
    let (upstream, service, method) = ("grpc", "probe.Service", "Method");
    host::grpc_stream(
        upstream.as_ptr(),
        upstream.len(),
        service.as_ptr(),
        service.len(),
        method.as_ptr(),
        method.len(),
        [].as_ptr(),
        0,
        id,
    )
}
