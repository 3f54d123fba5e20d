//! Makes HTTP calls and logs everything that comes back.
//!
//! A line of its configuration is `PHASE UPSTREAM PATH` and options: `without=NAME` leaves a header out, `within=MILLISECONDS` (default
//! 5000), `body=TEXT`, `trailer=TEXT`. Phases are `configure`, `tick` (one), `request` and `log`. `pause` holds the request, `deny` answers it after its
//! calls, `resume` and `reply` say what happens when all answers are there, `status` logs what `proxy_get_status` says.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Default)]
struct Root {
    lines: String,
}

impl Context for Root {
    fn on_http_call_response(&mut self, _id: u32, headers: usize, size: usize, trailers: usize) {
        say(&format!("plugin: {}", answer(headers, size, trailers)));
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        self.lines = String::from_utf8_lossy(&configuration).into_owned();
        call_all("configure", &self.lines);
        if self.lines.lines().any(|line| line.starts_with("tick ")) {
            self.set_tick_period(Duration::from_millis(10));
        }
        true
    }

    fn on_tick(&mut self) {
        self.set_tick_period(Duration::ZERO);
        call_all("tick", &self.lines);
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { lines: self.lines.clone(), open: 0 }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    lines: String,
    open: usize,
}

impl Stream {
    fn is_told(&self, what: &str) -> bool {
        self.lines.lines().any(|line| line == what)
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _id: u32, headers: usize, size: usize, trailers: usize) {
        say(&answer(headers, size, trailers));
        if self.is_told("status") {
            say(&format!("status {:?}", hostcalls::get_grpc_status()));
        }
        self.open -= 1;
        if self.open > 0 {
            return;
        }
        if self.is_told("resume") {
            self.resume_http_request();
        }
        if self.is_told("reply") {
            self.send_http_response(418, vec![("x-by", "completion")], Some(b"answered"));
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        self.open += call_all("request", &self.lines);
        if self.is_told("deny") {
            self.send_http_response(403, vec![], Some(b"denied"));
        }
        if self.is_told("pause") || self.is_told("deny") { Action::Pause } else { Action::Continue }
    }

    fn on_log(&mut self) {
        self.open += call_all("log", &self.lines);
    }
}

/// How many calls are on their way.
fn call_all(phase: &str, lines: &str) -> usize {
    let lines = lines.lines().filter_map(|line| line.strip_prefix(phase)?.strip_prefix(' '));
    lines.filter(|line| call(line)).count()
}

fn call(line: &str) -> bool {
    let parts: Vec<&str> = line.split(' ').collect();
    let option =
        |name: &str| parts.iter().find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let (upstream, path) = (parts[0], parts[1]);
    let headers =
        [(":method", "POST"), (":path", path), (":authority", "aux.test"), ("x-asks", "guest")];
    let headers = headers.into_iter().filter(|(name, _)| Some(*name) != option("without"));
    let trailers = option("trailer").map(|text| ("x-trail", text)).into_iter();
    let within = option("within").and_then(|text| text.parse().ok()).unwrap_or(5000);
    let body = option("body").map(str::as_bytes);
    let within = Duration::from_millis(within);
    match hostcalls::dispatch_http_call(
        upstream,
        headers.collect(),
        body,
        trailers.collect(),
        within,
    ) {
        Ok(_id) => true,
        Err(status) => {
            say(&format!("{line}: {status:?}"));
            false
        }
    }
}

/// Heads have fields of their own on each host: of their number it says only whether it is zero.
fn answer(headers: usize, size: usize, trailers: usize) -> String {
    if headers == 0 {
        return format!("no answer, {size} bytes, {trailers} trailers");
    }
    let context = Reader;
    let header = |name: &str| context.get_http_call_response_header(name).unwrap_or_default();
    let body = context.get_http_call_response_body(0, size).unwrap_or_default();
    let shown = if body.len() > SHOWN { &body[body.len() - SHOWN..] } else { &body[..] };
    let body = String::from_utf8_lossy(shown).into_owned();
    let trail = match trailers {
        0 => String::new(),
        _ => context.get_http_call_response_trailer("x-end").unwrap_or_default(),
    };
    format!(
        "{} [{}] {size} bytes [{body}] {trailers} trailers [{trail}]",
        header(":status"),
        header("x-one")
    )
}

/// Of a long body only the end is logged.
const SHOWN: usize = 80;

struct Reader;

impl Context for Reader {}

fn say(text: &str) {
    let _said = hostcalls::log(LogLevel::Info, text);
}
