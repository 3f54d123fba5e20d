//! Asks the upstream that its configuration names before each request: 200 lets it pass, anything else refuses it.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use tally::Tally;

#[path = "../../tally.rs"]
mod tally;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

#[derive(Default)]
struct Root(Option<Rc<Setting>>);

struct Setting {
    upstream: String,
    tally: Tally,
}

struct Gate(Rc<Setting>);

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let upstream = String::from_utf8(self.get_plugin_configuration().unwrap_or_default());
        self.0 = upstream.ok().map(|upstream| Rc::new(Setting { upstream, tally: Tally::new() }));
        self.0.is_some()
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Gate(self.0.clone()?)))
    }
}

impl Context for Gate {
    fn on_http_call_response(&mut self, _id: u32, _headers: usize, _size: usize, _trailers: usize) {
        if self.get_http_call_response_header(":status").as_deref() == Some("200") {
            self.resume_http_request();
        } else {
            self.send_http_response(403, vec![], None);
        }
    }
}

impl HttpContext for Gate {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        self.0.tally.count();
        let head = vec![(":method", "GET"), (":path", "/auth"), (":authority", "auth.test")];
        let patience = Duration::from_secs(5);
        match self.dispatch_http_call(&self.0.upstream, head, None, vec![], patience) {
            Ok(_id) => Action::Pause,
            Err(_) => {
                self.send_http_response(503, vec![], None);
                Action::Pause
            }
        }
    }
}
