//! Uses shared data, queues and metrics as its configuration says, and logs what it is answered: a value or a status' number.
//!
//! A line is `PHASE CALL ARGUMENTS`; phases are `configure`, `request` (`request:PATH` for one path) and `queue` (a queue is ready). Calls:
//! `set KEY VALUE [CAS]`, `swap KEY VALUE` (with the number that the last `get` brought), `get KEY`; `register NAME`, `resolve VM NAME`,
//! `enqueue TEXT`, `put TEXT` (without a line), `dequeue` and `drain` on the queue that was found last, `use NUMBER`; `define KIND NAME`, `increment N`, `record N` and `value`
//! of the metric that was defined last. `$path` in arguments is the request's path.

mod host;

use std::cell::RefCell;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

/// What earlier calls have brought.
#[derive(Default)]
struct Known {
    cas: u32,
    queue: u32,
    metric: u32,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

#[derive(Default)]
struct Root {
    lines: String,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        self.lines = String::from_utf8_lossy(&configuration).into_owned();
        run("configure", &self.lines, "");
        true
    }

    fn on_queue_ready(&mut self, _id: u32) {
        run("queue", &self.lines, "");
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { lines: self.lines.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    lines: String,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        run("request", &self.lines, &path);
        run(&format!("request:{path}"), &self.lines, &path);
        Action::Continue
    }
}

fn run(phase: &str, lines: &str, path: &str) {
    for line in lines.lines() {
        let Some((at, call)) = line.split_once(' ') else { continue };
        if at != phase {
            continue;
        }
        let call = call.replace("$path", path);
        let parts: Vec<&str> = call.split(' ').collect();
        KNOWN.with_borrow_mut(|known| match parts[0] {
            "drain" => drain(known),
            "put" => drop(host::enqueue(known.queue, parts[1])),
            _ => {
                let outcome =
                    made(known, &parts).unwrap_or_else(|status| format!("status {status}"));
                say(&format!("{call}: {outcome}"));
            }
        });
    }
}

fn drain(known: &Known) {
    while let Ok(text) = host::dequeue(known.queue) {
        say(&format!("got {text}"));
    }
}

fn made(known: &mut Known, parts: &[&str]) -> host::Answer<String> {
    let text = |at: usize| parts.get(at).copied().unwrap_or_default();
    let number = |at: usize| text(at).parse().unwrap_or(0);
    let ok = |()| "ok".to_owned();
    match parts[0] {
        "set" => host::set(text(1), text(2), number(3) as u32).map(ok),
        "swap" => host::set(text(1), text(2), known.cas).map(ok),
        "get" => host::get(text(1)).map(|(value, cas)| {
            known.cas = cas;
            format!("[{value}] {cas}")
        }),
        "register" => host::register(text(1)).map(|id| known.queue = id).map(ok),
        "resolve" => host::resolve(text(1), text(2)).map(|id| known.queue = id).map(ok),
        "use" => {
            known.queue = number(1) as u32;
            known.metric = known.queue;
            Ok(ok(()))
        }
        "enqueue" => host::enqueue(known.queue, text(1)).map(ok),
        "dequeue" => host::dequeue(known.queue).map(|value| format!("[{value}]")),
        "define" => host::define(number(1) as u32, text(2)).map(|id| known.metric = id).map(ok),
        "increment" => host::increment(known.metric, number(1)).map(ok),
        "record" => host::record(known.metric, number(1) as u64).map(ok),
        "value" => host::value(known.metric).map(|value| value.to_string()),
        _ => Ok("no such call".to_owned()),
    }
}

fn say(text: &str) {
    let _said = hostcalls::log(LogLevel::Info, text);
}
