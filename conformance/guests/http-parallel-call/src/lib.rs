//! Asks `hello` and `world` at once, and answers with what both said, in this order, whoever is first.

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_http_context(|_, _| Box::new(Both::default()));
}}

#[derive(Default)]
struct Both {
    calls: [Call; 2],
}

#[derive(Default)]
struct Call {
    id: u32,
    answer: Option<String>,
}

impl Context for Both {
    fn on_http_call_response(&mut self, id: u32, _headers: usize, size: usize, _trailers: usize) {
        let body = self.get_http_call_response_body(0, size).unwrap_or_default();
        if let Some(call) = self.calls.iter_mut().find(|call| call.id == id) {
            call.answer = Some(String::from_utf8_lossy(&body).into_owned());
        }
        let answers: Option<Vec<&str>> =
            self.calls.iter().map(|call| call.answer.as_deref()).collect();
        if let Some(answers) = answers {
            self.send_http_response(
                200,
                vec![],
                Some(format!("{}\n", answers.concat()).as_bytes()),
            );
        }
    }
}

impl HttpContext for Both {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        for (at, upstream) in ["hello", "world"].into_iter().enumerate() {
            let head = vec![(":method", "GET"), (":path", "/"), (":authority", "words.test")];
            let call =
                self.dispatch_http_call(upstream, head, None, vec![], Duration::from_secs(5));
            match call {
                Ok(id) => self.calls[at].id = id,
                Err(_) => {
                    self.send_http_response(500, vec![], Some(b"no call"));
                    return Action::Pause;
                }
            }
        }
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        self.set_http_response_header("Powered-By", Some("proxy-wasm"));
        Action::Continue
    }
}
