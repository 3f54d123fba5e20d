//! Calls the foreign functions that its configuration lists when a request comes, and logs what came of each.
//!
//! A line is `LABEL|FUNCTION|ARGUMENTS`, the arguments in hexadecimal; `LABEL|expr|TEXT` compiles an expression, evaluates
//! it and deletes it. Results are logged in hexadecimal.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, Bytes, ContextType, LogLevel, Status};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { lines: String::new() }));
}}

struct Root {
    lines: String,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        self.lines = String::from_utf8_lossy(&configuration).into_owned();
        true
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { lines: self.lines.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    lines: String,
}

impl Context for Stream {}

impl Stream {
    fn evaluate(&self, text: &str) -> Result<Option<Bytes>, Status> {
        let token = self.call_foreign_function("expr_create", Some(text.as_bytes()))?;
        let value = self.call_foreign_function("expr_evaluate", token.as_deref());
        self.call_foreign_function("expr_delete", token.as_deref())?;
        value
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        for line in self.lines.lines() {
            let mut parts = line.splitn(3, '|');
            let (Some(label), Some(function), Some(arguments)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let outcome = match function {
                "expr" => self.evaluate(arguments),
                _ => self.call_foreign_function(function, Some(&bytes(arguments))),
            };
            let outcome = match outcome {
                Ok(result) => format!("Ok {}", hexadecimal(&result.unwrap_or_default())),
                Err(status) => format!("{status:?}"),
            };
            let _logged = hostcalls::log(LogLevel::Info, &format!("{label}: {}", outcome.trim_end()));
        }
        Action::Continue
    }
}

fn bytes(text: &str) -> Vec<u8> {
    let pairs = (0..text.len() / 2).filter_map(|at| text.get(2 * at..2 * at + 2));
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
