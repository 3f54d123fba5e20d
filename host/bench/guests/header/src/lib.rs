//! Sets the header that its configuration names on each request and each response.

use std::rc::Rc;

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
    header: String,
    tally: Tally,
}

struct Header(Rc<Setting>);

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let header = String::from_utf8(self.get_plugin_configuration().unwrap_or_default());
        self.0 = header.ok().map(|header| Rc::new(Setting { header, tally: Tally::new() }));
        self.0.is_some()
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Header(self.0.clone()?)))
    }
}

impl Context for Header {}

impl HttpContext for Header {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        self.0.tally.count();
        self.set_http_request_header(&self.0.header, Some("request"));
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        self.set_http_response_header(&self.0.header, Some("response"));
        Action::Continue
    }
}
