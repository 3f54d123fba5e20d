//! Asks `grpcbin` before each gRPC request: an even status lets it pass, an odd one aborts it. Others are turned away.

use std::time::Duration;

use proxy_wasm::hostcalls::log;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, GrpcStatusCode, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_http_context(|_, _| Box::new(Gate));
}}

struct Gate;

impl Context for Gate {
    fn on_grpc_call_response(&mut self, _id: u32, status: u32, _size: usize) {
        if status.is_multiple_of(2) {
            let _said = log(LogLevel::Info, "Access granted.");
            self.resume_http_request();
            return;
        }
        let _said = log(LogLevel::Info, &format!("Access forbidden: {status}."));
        let metadata = vec![("Powered-By", b"proxy-wasm".as_slice())];
        self.send_grpc_response(GrpcStatusCode::Aborted, Some("Aborted by Proxy-Wasm!"), metadata);
    }
}

impl Gate {
    fn ask(&self) -> Action {
        let second = Duration::from_secs(1);
        let call = self.dispatch_grpc_call(
            "grpcbin",
            "grpcbin.GRPCBin",
            "RandomError",
            vec![],
            None,
            second,
        );
        match call {
            Ok(_id) => Action::Pause,
            Err(status) => {
                let _said = log(LogLevel::Error, &format!("no call: {status:?}"));
                Action::Continue
            }
        }
    }
}

impl HttpContext for Gate {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let content = self.get_http_request_header("content-type").unwrap_or_default();
        if !content.starts_with("application/grpc") {
            let headers = vec![("Powered-By", "proxy-wasm")];
            let body = b"Service accessible only to gRPC clients.\n";
            self.send_http_response(503, headers, Some(body));
            return Action::Pause;
        }
        let path = self.get_http_request_header(":path").unwrap_or_default();
        if path.starts_with("/grpc.reflection") {
            return Action::Continue;
        }
        self.ask()
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        self.set_http_response_header("Powered-By", Some("proxy-wasm"));
        Action::Continue
    }
}
