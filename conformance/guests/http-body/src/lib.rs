//! Holds a response until it is whole, and replaces it if it holds a secret.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_http_context(|_, _| Box::new(Redactor));
}}

struct Redactor;

impl Context for Redactor {}

impl HttpContext for Redactor {
    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        // The length may change, and the head cannot be changed later.
        self.set_http_response_header("content-length", None);
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        if !end {
            return Action::Pause;
        }
        let body = self.get_http_response_body(0, size).unwrap_or_default();
        if String::from_utf8_lossy(&body).contains("secret") {
            let notice = format!("Original message body ({size} bytes) redacted.\n");
            self.set_http_response_body(0, size, notice.as_bytes());
        }
        Action::Continue
    }
}
