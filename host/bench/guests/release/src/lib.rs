//! Says on each response which release it is: what its configuration (JSON) calls so.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

#[derive(Default)]
struct Root(Option<Rc<Setting>>);

#[derive(Deserialize)]
struct Setting {
    header: String,
    release: u32,
}

struct Release(Rc<Setting>);

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        self.0 = serde_json::from_slice(&text).ok().map(Rc::new);
        self.0.is_some()
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Release(self.0.clone()?)))
    }
}

impl Context for Release {}

impl HttpContext for Release {
    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        let Setting { header, release } = &*self.0;
        self.set_http_response_header(header, Some(&release.to_string()));
        Action::Continue
    }
}
