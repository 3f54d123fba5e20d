//! Holds a response until it is whole, and puts its body into capitals.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use tally::Tally;

#[path = "../../tally.rs"]
mod tally;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|_| Box::new(Root(Rc::new(Tally::new()))));
}}

struct Root(Rc<Tally>);

struct Capitals(Rc<Tally>);

impl Context for Root {}

impl RootContext for Root {
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Capitals(self.0.clone())))
    }
}

impl Context for Capitals {}

impl HttpContext for Capitals {
    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        self.0.count();
        // A filter that writes bodies rarely knows their length beforehand, and the head cannot be changed later.
        self.set_http_response_header("content-length", None);
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        if !end {
            return Action::Pause;
        }
        let mut body = self.get_http_response_body(0, size).unwrap_or_default();
        body.make_ascii_uppercase();
        self.set_http_response_body(0, size, &body);
        Action::Continue
    }
}
