//! Calls the service `rpc` for each request and logs everything that comes back. What it does stands in its configuration:
//! `unary`, `stream` (two messages and the end of its side), `cancel` (a stream, until the first message), `late` (a unary call,
//! without waiting), `wrong` (numbers and names that are none). With `aloud` behind it, it logs messages of statuses too.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, Bytes, ContextType, LogLevel, MapType};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Default)]
struct Root {
    does: String,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        self.does = String::from_utf8_lossy(&configuration).into_owned();
        true
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let does = self.does.split(' ').next().unwrap_or_default().to_owned();
        Some(Box::new(Caller { does, aloud: self.does.ends_with(" aloud") }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Caller {
    does: String,
    aloud: bool,
}

fn say(text: &str) {
    let _said = hostcalls::log(LogLevel::Info, text);
}

fn text(bytes: Option<Bytes>) -> String {
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

impl Caller {
    fn unary(&self) -> Action {
        let metadata = vec![("x-key", b"1".as_slice())];
        let limit = Duration::from_secs(1);
        let message = Some(b"question".as_slice());
        match self.dispatch_grpc_call("rpc", "acme.Orders", "Get", metadata, message, limit) {
            Ok(id) => say(&format!("call {id}")),
            Err(status) => say(&format!("no call: {status:?}")),
        }
        Action::Pause
    }

    fn stream(&self) -> Option<u32> {
        match self.open_grpc_stream("rpc", "acme.Orders", "Watch", vec![]) {
            Ok(id) => {
                say(&format!("stream {id}"));
                Some(id)
            }
            Err(status) => {
                say(&format!("no stream: {status:?}"));
                None
            }
        }
    }

    fn wrong(&self) {
        let limit = Duration::from_secs(1);
        let unknown = hostcalls::dispatch_grpc_call("nobody", "a.B", "C", vec![], None, limit);
        say(&format!("unknown upstream: {unknown:?}"));
        let unknown = hostcalls::open_grpc_stream("nobody", "a.B", "C", vec![]);
        say(&format!("unknown upstream: {unknown:?}"));
        for id in [4, 5, 6] {
            let sent = hostcalls::send_grpc_stream_message(id, Some(b"x"), false);
            say(&format!("send on {id}: {sent:?}"));
        }
        for id in [5, 6] {
            say(&format!("cancel {id}: {:?}", hostcalls::cancel_grpc_call(id)));
            say(&format!("close {id}: {:?}", hostcalls::close_grpc_stream(id)));
        }
    }

    fn tell_status(&self) {
        let (code, message) = self.get_grpc_status();
        match message.filter(|_| self.aloud) {
            Some(message) => say(&format!("status {code}: {message}")),
            None => say(&format!("status {code}")),
        }
    }

    fn metadata(&self, map: MapType, names: [&str; 2]) -> String {
        let value = |name: &&str| text(hostcalls::get_map_value_bytes(map, name).ok().flatten());
        names.iter().map(value).collect::<Vec<_>>().join(" ")
    }
}

impl Context for Caller {
    fn on_grpc_call_response(&mut self, id: u32, status: u32, size: usize) {
        let message = text(self.get_grpc_call_response_body(0, size));
        say(&format!("call {id} ends with {status} [{message}]"));
        self.tell_status();
        self.resume_http_request();
    }

    fn on_grpc_stream_initial_metadata(&mut self, id: u32, _entries: u32) {
        let seen = self.metadata(MapType::GrpcReceiveInitialMetadata, [":status", "x-first"]);
        say(&format!("stream {id} begins: {seen}"));
    }

    fn on_grpc_stream_message(&mut self, id: u32, size: usize) {
        let message = text(self.get_grpc_stream_message(0, size));
        say(&format!("stream {id}: {message}"));
        if self.does == "cancel" {
            self.cancel_grpc_stream(id);
            self.resume_http_request();
        }
    }

    fn on_grpc_stream_trailing_metadata(&mut self, id: u32, _entries: u32) {
        let seen = self.metadata(MapType::GrpcReceiveTrailingMetadata, ["grpc-status", "x-last"]);
        say(&format!("stream {id} trails: {seen}"));
    }

    fn on_grpc_stream_close(&mut self, id: u32, status: u32) {
        say(&format!("stream {id} ends with {status}"));
        self.tell_status();
        self.resume_http_request();
    }
}

impl HttpContext for Caller {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        match self.does.as_str() {
            "unary" => self.unary(),
            "late" => {
                self.unary();
                Action::Continue
            }
            "stream" => {
                if let Some(id) = self.stream() {
                    self.send_grpc_stream_message(id, Some(b"one"), false);
                    self.send_grpc_stream_message(id, Some(b"two"), true);
                }
                Action::Pause
            }
            "cancel" => {
                if let Some(id) = self.stream() {
                    self.send_grpc_stream_message(id, Some(b"one"), true);
                }
                Action::Pause
            }
            _ => {
                self.wrong();
                Action::Continue
            }
        }
    }
}
