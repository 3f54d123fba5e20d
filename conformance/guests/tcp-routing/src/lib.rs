//! Routes connections by the last byte of the client's address: even to `egress-router1`, odd to `egress-router2`. It says so
//! through Envoy's filter state, with the foreign function that stores it.

use std::net::SocketAddr;

use proxy_wasm::hostcalls::log;
use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, PeerType};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_stream_context(&self, _id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Connection))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }
}

struct Connection;

fn say(text: &str) {
    let _said = log(LogLevel::Info, text);
}

impl Context for Connection {}

impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> Action {
        let address = self.get_property(vec!["source", "address"]).unwrap_or_default();
        let address = String::from_utf8_lossy(&address).parse::<SocketAddr>();
        let last = match address.map(|address| address.ip()) {
            Ok(std::net::IpAddr::V4(ip)) => ip.octets()[3],
            Ok(std::net::IpAddr::V6(ip)) => ip.octets()[15],
            Err(_) => {
                say("no address");
                return Action::Continue;
            }
        };
        let router = if last.is_multiple_of(2) { "egress-router1" } else { "egress-router2" };
        let stored = self.call_foreign_function(
            "set_envoy_filter_state",
            Some(&state("envoy.tcp_proxy.cluster", router)),
        );
        say(&format!("{last} to {router}: {}", stored.is_ok()));
        Action::Continue
    }

    fn on_downstream_close(&mut self, _peer: PeerType) {
        say("closed");
    }
}

/// Envoy's `SetEnvoyFilterStateArguments`: path and value are the fields 1 and 2; the span stays the default, the filter chain.
fn state(path: &str, value: &str) -> Vec<u8> {
    let mut message = Vec::new();
    for (tag, text) in [(0x0a, path), (0x12, value)] {
        // Both are shorter than 128 bytes, so that a length is one byte.
        message.extend([tag, text.len() as u8]);
        message.extend(text.as_bytes());
    }
    message
}
