//! Tells the heads of requests and responses line by line, answers `/hello` itself, and says when an exchange is over.

use proxy_wasm::hostcalls::log;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_http_context(|id, _| Box::new(Teller { id }));
}}

struct Teller {
    id: u32,
}

impl Teller {
    fn say(&self, text: &str) {
        let _said = log(LogLevel::Info, &format!("#{} {text}", self.id));
    }

    /// Hosts add headers of their own, in an order of their own: only what every client and server sends is told.
    fn tell(&self, arrow: &str, headers: &[(String, String)]) {
        let told = [":authority", ":method", ":path", ":status", "content-type", "x-a"];
        for (name, value) in headers.iter().filter(|header| told.contains(&header.0.as_str())) {
            self.say(&format!("{arrow} {name}: {value}"));
        }
    }
}

impl Context for Teller {}

impl HttpContext for Teller {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let mut headers = self.get_http_request_headers();
        headers.sort();
        self.tell("->", &headers);
        if self.get_http_request_header(":path").as_deref() != Some("/hello") {
            return Action::Continue;
        }
        let headers = vec![("Hello", "World"), ("Powered-By", "proxy-wasm")];
        self.send_http_response(200, headers, Some(b"Hello, World!\n"));
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        let mut headers = self.get_http_response_headers();
        headers.sort();
        self.tell("<-", &headers);
        Action::Continue
    }

    fn on_log(&mut self) {
        self.say("completed.");
    }
}
