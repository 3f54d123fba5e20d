//! Calls foreign functions, good and bad, and writes what came of them into the response's headers.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, Bytes, ContextType, LogLevel, Status};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { expression: None }));
}}

struct Root {
    expression: Option<Bytes>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration();
        let token = self.call_foreign_function("expr_create", text.as_deref());
        self.expression = token.unwrap_or_default();
        self.expression.is_some()
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let expression = self.expression.clone().unwrap_or_default();
        Some(Box::new(Stream { expression, evaluated: String::new() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    expression: Bytes,
    evaluated: String,
}

impl Context for Stream {}

impl Stream {
    /// The result as text, or the status.
    fn ask(&self, function: &str, arguments: Option<&[u8]>) -> String {
        match self.call_foreign_function(function, arguments) {
            Ok(result) => {
                String::from_utf8_lossy(&result.unwrap_or_default()).escape_default().to_string()
            }
            Err(status) => format!("{status:?}"),
        }
    }

    /// There and back.
    fn compressed(&self, text: &[u8]) -> Result<Bytes, Status> {
        let packed = self.call_foreign_function("compress", Some(text))?.unwrap_or_default();
        Ok(self.call_foreign_function("uncompress", Some(&packed))?.unwrap_or_default())
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        // path "envoy.tcp_proxy.cluster", value "blue"
        let state = b"\x0a\x17envoy.tcp_proxy.cluster\x12\x04blue";
        self.add_http_request_header("x-state", &self.ask("set_envoy_filter_state", Some(state)));
        self.evaluated = self.ask("expr_evaluate", Some(&self.expression));
        self.add_http_request_header("x-clear", &self.ask("clear_route_cache", None));
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        let text = b"a text that is worth a few bytes, a text that is worth a few bytes";
        let answers = [
            ("x-evaluated", self.evaluated.clone()),
            ("x-compressed", (self.compressed(text).as_deref() == Ok(&text[..])).to_string()),
            ("x-corrupt", self.ask("uncompress", Some(text))),
            ("x-syntax", self.ask("expr_create", Some(b"1 +"))),
            ("x-token", self.ask("expr_evaluate", Some(b"\xff\xff\xff\xff"))),
            ("x-key", self.ask("verify_signature", None)),
            ("x-failure", self.ask("expr_delete", Some(&self.expression[1..]))),
            ("x-unknown", self.ask("fly", None)),
        ];
        for (name, answer) in answers {
            self.set_http_response_header(name, Some(&answer));
        }
        Action::Continue
    }
}
