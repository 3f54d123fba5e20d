//! Answers itself with the metadata that an earlier Lua filter left for it; lets the request pass if there is none.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_http_context(|_, _| Box::new(Reader));
}}

struct Reader;

impl Context for Reader {}

impl HttpContext for Reader {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let path = vec![
            "metadata",
            "filter_metadata",
            "envoy.filters.http.lua",
            "uppercased-custom-metadata",
        ];
        let Some(Ok(found)) = self.get_property(path).map(String::from_utf8) else {
            self.add_http_request_header("x-metadata", "none");
            return Action::Continue;
        };
        let body = format!("Custom response with metadata: {found:?}\n");
        let headers = vec![("Powered-By", "proxy-wasm"), ("uppercased-metadata", found.as_str())];
        self.send_http_response(200, headers, Some(body.as_bytes()));
        Action::Pause
    }
}
