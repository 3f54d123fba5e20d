//! Asks the upstream `dice` for a byte before each request: even lets it pass, odd, nothing or no answer refuses it.

use std::time::Duration;

use proxy_wasm::hostcalls::log;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_http_context(|_, _| Box::new(Gate));
}}

struct Gate;

impl Context for Gate {
    fn on_http_call_response(&mut self, _id: u32, _headers: usize, size: usize, _trailers: usize) {
        let roll = self.get_http_call_response_body(0, size).unwrap_or_default();
        if roll.first().is_some_and(|byte| byte.is_multiple_of(2)) {
            let _said = log(LogLevel::Info, "Access granted.");
            self.resume_http_request();
            return;
        }
        let _said = log(LogLevel::Info, "Access forbidden.");
        let headers = vec![("Powered-By", "proxy-wasm")];
        self.send_http_response(403, headers, Some(b"Access forbidden.\n"));
    }
}

impl HttpContext for Gate {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let head = vec![(":method", "GET"), (":path", "/bytes/1"), (":authority", "dice.test")];
        match self.dispatch_http_call("dice", head, None, vec![], Duration::from_secs(1)) {
            Ok(_id) => Action::Pause,
            Err(status) => {
                let _said = log(LogLevel::Error, &format!("no call: {status:?}"));
                Action::Continue
            }
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        self.set_http_response_header("Powered-By", Some("proxy-wasm"));
        Action::Continue
    }
}
