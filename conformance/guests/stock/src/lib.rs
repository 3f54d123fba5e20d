//! A filter as its author would write it on the stock `proxy-wasm` crate, without anything of ours.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, PeerType};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { greeting: String::new(), requests: 0 }));
}}

struct Root {
    greeting: String,
    requests: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        self.greeting = String::from_utf8_lossy(&configuration).into_owned();
        self.requests =
            hostcalls::define_metric(MetricType::Counter, "stock_requests").unwrap_or(0);
        self.set_tick_period(Duration::from_millis(10));
        !self.greeting.is_empty()
    }

    fn on_tick(&mut self) {
        let _kept = self.set_shared_data("ticked", Some(b"yes"), None);
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { greeting: self.greeting.clone(), requests: self.requests }))
    }

    fn create_stream_context(&self, _id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Connection))
    }

    /// A network filter by its configuration.
    fn get_type(&self) -> Option<ContextType> {
        Some(match self.greeting.as_str() {
            "bytes" => ContextType::StreamContext,
            _ => ContextType::HttpContext,
        })
    }
}

/// Capitals for the upstream, what comes back in small letters; `close` closes the connection.
struct Connection;

impl Context for Connection {}

impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> Action {
        let _logged = hostcalls::log(LogLevel::Info, "new connection");
        Action::Continue
    }

    fn on_downstream_data(&mut self, size: usize, end: bool) -> Action {
        let data = self.get_downstream_data(0, size).unwrap_or_default();
        if data.starts_with(b"close") {
            self.close_downstream();
            return Action::Pause;
        }
        if !end && !data.ends_with(b"\n") {
            return Action::Pause;
        }
        self.set_downstream_data(0, size, &data.to_ascii_uppercase());
        Action::Continue
    }

    fn on_upstream_data(&mut self, size: usize, _end: bool) -> Action {
        let data = self.get_upstream_data(0, size).unwrap_or_default();
        self.set_upstream_data(0, size, &data.to_ascii_lowercase());
        self.resume_upstream();
        Action::Pause
    }

    fn on_downstream_close(&mut self, peer: PeerType) {
        let _logged = hostcalls::log(LogLevel::Info, &format!("client closed: {peer:?}"));
    }

    fn on_upstream_close(&mut self, peer: PeerType) {
        let _logged = hostcalls::log(LogLevel::Info, &format!("upstream closed: {peer:?}"));
    }

    fn on_log(&mut self) {
        let size = self.get_property(vec!["request", "size"]).unwrap_or_default();
        let size = <[u8; 8]>::try_from(size).map(i64::from_le_bytes).unwrap_or_default();
        let _counted = hostcalls::define_metric(MetricType::Gauge, "stock_bytes")
            .map(|id| hostcalls::record_metric(id, size.unsigned_abs()));
    }
}

struct Stream {
    greeting: String,
    requests: u32,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let _counted = hostcalls::increment_metric(self.requests, 1);
        if self.get_http_request_header("x-deny").is_some() {
            self.send_http_response(403, vec![("x-by", "stock")], Some(b"denied"));
            return Action::Pause;
        }
        self.set_http_request_header("x-greeting", Some(&self.greeting));
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        if !end {
            return Action::Pause;
        }
        let body = self.get_http_request_body(0, size).unwrap_or_default();
        self.set_http_request_body(0, size, &body.to_ascii_uppercase());
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        let path = self.get_property(vec!["request", "path"]).unwrap_or_default();
        self.set_http_response_header_bytes("x-path", Some(&path));
        let (ticked, _version) = self.get_shared_data("ticked");
        let ticked = ticked
            .map_or_else(|| "no".to_owned(), |value| String::from_utf8_lossy(&value).into_owned());
        self.set_http_response_header("x-ticked", Some(&ticked));
        Action::Continue
    }
}
