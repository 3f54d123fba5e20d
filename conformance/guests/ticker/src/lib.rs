//! Ticks. Its configuration is `FIRST COUNT THEN TOTAL`: COUNT ticks of FIRST milliseconds, then of THEN milliseconds, none after TOTAL. Each is
//! logged; with `quiet` behind it only the end is.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Ticker>::default());
}}

#[derive(Default)]
struct Ticker {
    numbers: Vec<u64>,
    quiet: bool,
    ticks: u64,
}

impl Ticker {
    fn number(&self, at: usize) -> u64 {
        self.numbers.get(at).copied().unwrap_or(0)
    }
}

impl Context for Ticker {}

impl RootContext for Ticker {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        let text = String::from_utf8_lossy(&configuration);
        self.numbers = text.split(' ').filter_map(|part| part.parse().ok()).collect();
        self.quiet = text.ends_with(" quiet");
        self.set_tick_period(Duration::from_millis(self.number(0)));
        true
    }

    fn on_tick(&mut self) {
        self.ticks += 1;
        if !self.quiet {
            say(&format!("tick {}", self.ticks));
        }
        if self.ticks == self.number(1) {
            self.set_tick_period(Duration::from_millis(self.number(2)));
        }
        if self.ticks == self.number(3) {
            self.set_tick_period(Duration::ZERO);
            say(if self.quiet { "the quiet one is over" } else { "over" });
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream;

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        Action::Continue
    }
}

fn say(text: &str) {
    let _said = hostcalls::log(LogLevel::Info, text);
}
