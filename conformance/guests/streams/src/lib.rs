//! Does in each phase what a header of the request says; the plugin's configuration is the header's name. Without an SDK,
//! because these know two answers of a callback and there are more.
//!
//! The header holds entries `PHASE: STEP STEP; …`. Phases are `request_headers`, `response_body` and so on, `called` after
//! the answer to a call, `tick`, `log`; `request_body.end` stands for the callback that ends the stream,
//! `request_body.2` for the second. A number is what the callback answers, default 0; the other steps are in `steps`. A
//! phase without an entry does nothing.

mod host;
mod steps;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use steps::Phase;

thread_local! {
    static ROOT: Cell<u32> = const { Cell::new(0) };
    /// The exchange that waits for a tick or for the answer to a call.
    static WAITING: Cell<u32> = const { Cell::new(0) };
    static HEADER: RefCell<String> = const { RefCell::new(String::new()) };
    static SCRIPTS: RefCell<BTreeMap<u32, Script>> = const { RefCell::new(BTreeMap::new()) };
}

#[derive(Default)]
struct Script {
    text: String,
    /// How often each phase came.
    times: BTreeMap<&'static str, u32>,
}

impl Script {
    /// The steps of a phase that comes now.
    fn entry(&mut self, phase: &Phase) -> Option<String> {
        let times = self.times.entry(phase.name).or_default();
        *times += 1;
        let name = phase.name;
        let special = if phase.end { "end".to_owned() } else { times.to_string() };
        let names = [&format!("{name}.{special}"), name];
        let entries = || self.text.split(';').filter_map(|entry| entry.split_once(':'));
        let find = |name: &&str| entries().find(|(of, _)| of.trim() == *name);
        names.iter().find_map(find).map(|(_, steps)| steps.to_owned())
    }
}

/// Does what stands under a phase; its answer.
fn act(context: u32, phase: &Phase) -> u32 {
    let entry = SCRIPTS.with_borrow_mut(|all| all.get_mut(&context)?.entry(phase));
    let Some(entry) = entry else { return 0 };
    let mut answer = 0;
    for step in entry.split_whitespace() {
        match step.parse() {
            Ok(number) => answer = number,
            Err(_) => steps::make(step, phase),
        }
        if matches!(step, "call" | "tick") {
            WAITING.set(context);
        }
    }
    answer
}

/// A phase of a stream; `map` is its header map.
fn phase(context: u32, name: &'static str, map: u32, size: u32, end: u32) -> u32 {
    act(context, &Phase { name, map, size, end: end != 0 })
}

/// A callback of the plugin that is about the exchange that waits.
fn about_waiting(name: &'static str) {
    let context = WAITING.get();
    host::set_effective_context(context);
    phase(context, name, 0, 0, 0);
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Vec::<u8>::with_capacity(size).leak().as_mut_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
    if parent == 0 {
        ROOT.set(context);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_configure(_root: u32, _size: u32) -> u32 {
    HEADER.set(host::buffer(host::CONFIGURATION));
    1
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(context: u32, count: u32, end: u32) -> u32 {
    let script = HEADER.with_borrow(|name| host::header(host::REQUEST_HEADERS, name));
    let script = Script { text: script.unwrap_or_default(), ..Script::default() };
    SCRIPTS.with_borrow_mut(|all| all.insert(context, script));
    phase(context, "request_headers", host::REQUEST_HEADERS, count, end)
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_body(context: u32, size: u32, end: u32) -> u32 {
    phase(context, "request_body", host::REQUEST_HEADERS, size, end)
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_trailers(context: u32, count: u32) -> u32 {
    phase(context, "request_trailers", host::REQUEST_TRAILERS, count, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_response_headers(context: u32, count: u32, end: u32) -> u32 {
    phase(context, "response_headers", host::RESPONSE_HEADERS, count, end)
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_response_body(context: u32, size: u32, end: u32) -> u32 {
    phase(context, "response_body", host::RESPONSE_HEADERS, size, end)
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_response_trailers(context: u32, count: u32) -> u32 {
    phase(context, "response_trailers", host::RESPONSE_TRAILERS, count, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_http_call_response(_root: u32, _call: u32, _: u32, _: u32, _: u32) {
    about_waiting("called");
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_tick(_root: u32) {
    host::set_tick_period(0);
    about_waiting("tick");
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_log(context: u32) {
    if context != ROOT.get() {
        phase(context, "log", host::RESPONSE_HEADERS, 0, 0);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_delete(context: u32) {
    SCRIPTS.with_borrow_mut(|all| all.remove(&context));
}
