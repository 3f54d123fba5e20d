//! Small guests in the text format, for what a filter can do to an exchange.

use std::sync::Arc;

use portcullis_proxy::snapshot::*;
use portcullis_vm::{Limits, LogLevel, Module, PluginSpec};

use crate::harness::engine;

#[path = "../../../guests.rs"]
mod frame;

pub fn filter(name: &str, strings: &[(&str, &str)], body: &str) -> Filter {
    let bytes = wat::parse_str(frame::text(strings, body)).unwrap();
    let module = Module::load(&engine(), &bytes, None).unwrap();
    let name: Arc<str> = format!("default/{name}").into();
    Filter {
        url: format!("file://{name}.wasm"),
        module: Arc::new(module),
        plugin: Arc::new(PluginSpec {
            root_id: String::new(),
            vm_id: name.to_string(),
            vm_configuration: bytes::Bytes::new(),
            configuration: bytes::Bytes::new(),
            environment: Vec::new(),
            limits: Limits::default(),
            allow_on_headers_stop_iteration: false,
            name: name.clone(),
        }),
        name,
        fail: FailStrategy::Close,
        isolation: Isolation::Shared,
        allow_calls: AllowCalls::Everything,
        log_level: LogLevel::Info,
        node: Arc::default(),
    }
}

/// Adds `name: value` to request and response.
pub fn marker(name: &str, value: &str) -> Filter {
    filter(
        name,
        &[("k", "x-mark"), ("v", value)],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (drop (call $add (i32.const 0) $k$ $v$)) (i32.const 0))
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (drop (call $add (i32.const 2) $k$ $v$)) (i32.const 0))"#,
    )
}

/// Answers requests with `x-deny` by 403.
pub fn denier() -> Filter {
    filter(
        "denier",
        &[("h", "x-deny"), ("b", "denied by filter"), ("d", "not today"), ("m", "\0")],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (if (call $has $h$) (then
               (drop (call $reply (i32.const 403) $d$ $b$ (i32.const 0) (i32.const 0) (i32.const -1)))
               (return (i32.const 1))))
             (i32.const 0))"#,
    )
}

/// Holds each body until it is complete and replaces it by `replacement`.
pub fn rewriter(replacement: &str) -> Filter {
    filter(
        "rewriter",
        &[("r", replacement)],
        r#"(func $body (param $map i32) (param $end i32) (result i32)
             (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
             (drop (call $set_body (local.get $map) (i32.const 0) (i32.const 0x7fffffff) $r$))
             (i32.const 0))
           (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             (call $body (i32.const 0) (local.get 2)))
           (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
             (call $body (i32.const 1) (local.get 2)))"#,
    )
}

/// Traps on `x-trap`, loops for ever on `x-loop`, eats memory on `x-eat`.
pub fn misbehaving() -> Filter {
    filter(
        "misbehaving",
        &[("t", "x-trap"), ("l", "x-loop"), ("e", "x-eat")],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (if (call $has $t$) (then (unreachable)))
             (if (call $has $l$) (then (loop $for_ever (br $for_ever))))
             (if (call $has $e$) (then
               (loop $more (br_if $more (i32.ne (memory.grow (i32.const 64)) (i32.const -1))))
               (unreachable)))
             (i32.const 0))"#,
    )
}

/// Traps on `x-trap`, and starts only once.
pub fn starting_once() -> Filter {
    filter(
        "once",
        &[("t", "x-trap"), ("k", "started")],
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (if (i32.eqz (call $get_data $k$ (i32.const 0) (i32.const 4) (i32.const 8)))
               (then (return (i32.const 0))))
             (drop (call $set_data $k$ $k$ (i32.const 0))) (i32.const 1))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (if (call $has $t$) (then (unreachable))) (i32.const 0))"#,
    )
}

/// Pauses each request, asks the upstream `auth`, and goes on when it answers.
pub fn asking() -> Filter {
    calling(5000, "(drop (call $continue (i32.const 0)))")
}

/// As [`asking`], of another upstream.
pub fn asking_at(upstream: &str) -> Filter {
    calling_at(upstream, 5000, "(drop (call $continue (i32.const 0)))")
}

/// Pauses each request, asks the upstream `auth` within so many milliseconds, and does `then` when it answers or not.
pub fn calling(timeout: u32, then: &str) -> Filter {
    calling_at("auth", timeout, then)
}

/// Has a function `$ask` that calls the upstream `auth` and needs no answer.
pub fn calling_from(body: &str) -> Filter {
    let pairs = pairs(&[(":method", "GET"), (":path", "/check"), (":authority", "auth")]);
    let ask = r#"(func $ask (result i32)
        (call $call $u$ $p$ (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 60000) (i32.const 8)))"#;
    filter("reporting", &[("u", "auth"), ("p", &pairs), ("h", "x-hold")], &format!("{ask} {body}"))
}

fn calling_at(upstream: &str, timeout: u32, then: &str) -> Filter {
    let pairs = pairs(&[(":method", "GET"), (":path", "/check"), (":authority", "auth")]);
    filter(
        "asking",
        &[("u", upstream), ("p", &pairs)],
        &format!(
            r#"(func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
             (global.set $waiting (local.get $id))
             (drop (call $call $u$ $p$ (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
               (i32.const {timeout}) (i32.const 8)))
             (i32.const 1))
           (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
             (drop (call $effective (global.get $waiting)))
             {then})"#
        ),
    )
}

/// Holds each request's body, asks the upstream `auth` about it, and answers 403 when `auth` has answered.
pub fn judging() -> Filter {
    holding(
        "(drop (call $reply (i32.const 403) $d$ $b$ (i32.const 0) (i32.const 0) (i32.const -1)))",
    )
}

/// As [`judging`], but replaces the body by `judged` and lets the request go.
pub fn replacing_later() -> Filter {
    holding(
        "(drop (call $set_body (i32.const 0) (i32.const 0) (i32.const 0x7fffffff) $b$))
         (drop (call $continue (i32.const 0)))",
    )
}

/// Holds each request's body, asks the upstream `auth` about it, and does `then` when it has answered.
fn holding(then: &str) -> Filter {
    let pairs = pairs(&[(":method", "GET"), (":path", "/check"), (":authority", "auth")]);
    filter(
        "judging",
        &[("u", "auth"), ("p", &pairs), ("b", "judged"), ("d", "")],
        &r#"(func (export "proxy_on_request_body") (param $id i32) (param i32 i32) (result i32)
             (if (i32.eqz (global.get $waiting)) (then
               (drop (call $call $u$ $p$ (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                 (i32.const 5000) (i32.const 8)))))
             (global.set $waiting (local.get $id))
             (i32.const 1))
           (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
             (drop (call $effective (global.get $waiting)))
             THEN)"#
            .replace("THEN", then),
    )
}

/// Registers a queue, puts an element into it for each request, and answers the request when it is told of that. Does not
/// start when `starts` is false.
pub fn queueing(starts: bool) -> Filter {
    let body = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $register $q$ (i32.const 4))) (i32.const STARTS))
           (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
             (global.set $waiting (local.get $id))
             (drop (call $enqueue (i32.load (i32.const 4)) $q$)) (i32.const 1))
           (func (export "proxy_on_queue_ready") (param i32 i32)
             (drop (call $effective (global.get $waiting)))
             (drop (call $continue (i32.const 0))))"#;
    filter("queueing", &[("q", "queue")], &body.replace("STARTS", if starts { "1" } else { "0" }))
}

/// Puts two elements into its queue for each that it is told of.
pub fn breeding() -> Filter {
    filter(
        "breeding",
        &[("q", "queue")],
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $register $q$ (i32.const 4))) (i32.const 1))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (drop (call $enqueue (i32.load (i32.const 4)) $q$)) (i32.const 0))
           (func (export "proxy_on_queue_ready") (param i32 i32)
             (drop (call $enqueue (local.get 1) $q$))
             (drop (call $enqueue (local.get 1) $q$)))"#,
    )
}

/// Holds each request's body, and has a timer replace it and let it go.
pub fn replacing_in_time() -> Filter {
    filter(
        "replacing",
        &[("b", "by the timer")],
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $tick_period (i32.const 10))) (i32.const 1))
           (func (export "proxy_on_request_body") (param $id i32) (param i32 i32) (result i32)
             (if (i32.eqz (local.get 2)) (then (return (i32.const 1))))
             (global.set $waiting (local.get $id)) (i32.const 1))
           (func (export "proxy_on_tick") (param i32)
             (if (i32.eqz (global.get $waiting)) (then (return)))
             (drop (call $effective (global.get $waiting)))
             (drop (call $set_body (i32.const 0) (i32.const 0) (i32.const 0x7fffffff) $b$))
             (drop (call $continue (i32.const 0)))
             (global.set $waiting (i32.const 0)))"#,
    )
}

/// Remembers in its log phase that a request had `x-deny`, and marks responses from then on.
pub fn recalling() -> Filter {
    filter(
        "recalling",
        &[("k", "x-mark"), ("d", "x-deny"), ("v", "denied")],
        r#"(func (export "proxy_on_log") (param i32)
             (if (call $has $d$) (then (global.set $waiting (i32.const 1)))))
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (if (global.get $waiting) (then (drop (call $add (i32.const 2) $k$ $v$))))
             (i32.const 0))"#,
    )
}

/// Pauses each request until a timer lets it go.
pub fn delaying() -> Filter {
    filter(
        "delaying",
        &[],
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $tick_period (i32.const 20))) (i32.const 1))
           (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
             (global.set $waiting (local.get $id)) (i32.const 1))
           (func (export "proxy_on_tick") (param i32)
             (if (global.get $waiting) (then
               (drop (call $effective (global.get $waiting)))
               (drop (call $continue (i32.const 0)))
               (global.set $waiting (i32.const 0)))))"#,
    )
}

/// The map format of the ABI.
pub fn pairs(entries: &[(&str, &str)]) -> String {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for (key, value) in entries {
        bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for (key, value) in entries {
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
    }
    String::from_utf8(bytes).unwrap()
}
