//! Guests as text: a prelude that imports the whole ABI and can log numbers and bytes, and strings in place.

/// Every function that the `proxy-wasm` crate 0.2.5 declares, with its type.
const IMPORTS: &[(&str, usize)] = &[
    ("proxy_log", 3),
    ("proxy_get_log_level", 1),
    ("proxy_get_current_time_nanoseconds", 1),
    ("proxy_set_tick_period_milliseconds", 1),
    ("proxy_get_buffer_bytes", 5),
    ("proxy_set_buffer_bytes", 5),
    ("proxy_get_header_map_pairs", 3),
    ("proxy_set_header_map_pairs", 3),
    ("proxy_get_header_map_value", 5),
    ("proxy_replace_header_map_value", 5),
    ("proxy_add_header_map_value", 5),
    ("proxy_remove_header_map_value", 3),
    ("proxy_get_property", 4),
    ("proxy_set_property", 4),
    ("proxy_get_shared_data", 5),
    ("proxy_set_shared_data", 5),
    ("proxy_register_shared_queue", 3),
    ("proxy_resolve_shared_queue", 5),
    ("proxy_dequeue_shared_queue", 3),
    ("proxy_enqueue_shared_queue", 3),
    ("proxy_continue_stream", 1),
    ("proxy_close_stream", 1),
    ("proxy_send_local_response", 8),
    ("proxy_http_call", 10),
    ("proxy_grpc_call", 12),
    ("proxy_grpc_stream", 9),
    ("proxy_grpc_send", 4),
    ("proxy_grpc_cancel", 1),
    ("proxy_grpc_close", 1),
    ("proxy_get_status", 3),
    ("proxy_set_effective_context", 1),
    ("proxy_call_foreign_function", 6),
    ("proxy_done", 0),
    ("proxy_define_metric", 4),
    ("proxy_get_metric", 2),
];

const PRELUDE: &str = r#"
  (import "env" "proxy_record_metric" (func $proxy_record_metric (param i32 i64) (result i32)))
  (import "env" "proxy_increment_metric" (func $proxy_increment_metric (param i32 i64) (result i32)))
  (import "env" "proxy_get_header_map_size" (func $proxy_get_header_map_size (param i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_status" (func $proxy_get_buffer_status (param i32 i32 i32) (result i32)))
  (import "env" "proxy_redis_init" (func $proxy_redis_init (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_redis_call" (func $proxy_redis_call (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 65536))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (if (i32.eqz (local.get $size)) (then unreachable))
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get $size))))
  ;; logs a text
  (func $say (param i32 i32)
    (drop (call $proxy_log (i32.const 2) (local.get 0) (local.get 1))))
  ;; logs the bytes that the last call handed out
  (func $say_out (call $say (i32.load (i32.const 16)) (i32.load (i32.const 20))))
  ;; logs a number
  (func $say64 (param $number i64) (local $at i32)
    (local.set $at (i32.const 64))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.wrap_i64
        (i64.add (i64.const 48) (i64.rem_u (local.get $number) (i64.const 10)))))
      (local.set $number (i64.div_u (local.get $number) (i64.const 10)))
      (br_if $digit (i64.ne (local.get $number) (i64.const 0))))
    (call $say (local.get $at) (i32.sub (i32.const 64) (local.get $at))))
  (func $say32 (param i32) (call $say64 (i64.extend_i32_u (local.get 0))))
"#;

/// A module of ABI 0.2.1 made of `body` and a prelude: the functions of the ABI under their names, `$say` (address,
/// length), `$say32`, `$say64`, and `$say_out` for what a call wrote to `OUT`. In `body`, `"text"S` stands for address
/// and length of the text, and `OUT` for the addresses of a pointer and a size.
pub fn wat(body: &str) -> String {
    let (body, data) = intern(&body.replace("OUT", "(i32.const 16) (i32.const 20)"));
    let imports: String = IMPORTS
        .iter()
        .map(|(name, params)| {
            let params = "i32 ".repeat(*params);
            format!("(import \"env\" \"{name}\" (func ${name} (param {params}) (result i32)))\n")
        })
        .collect();
    let marker = "(func (export \"proxy_abi_version_0_2_1\"))";
    format!("(module {imports} {PRELUDE} {marker} {data} {body})")
}

/// A module of exactly `body`, with strings in place.
pub fn bare(body: &str) -> String {
    let (body, data) = intern(&body.replace("OUT", "(i32.const 16) (i32.const 20)"));
    format!("(module {body} {data})")
}

fn intern(body: &str) -> (String, String) {
    let (mut text, mut data, mut at) = (String::new(), String::new(), 1024);
    let mut rest = body;
    while let Some(end) = rest.find("\"S") {
        let start = rest[..end].rfind('"').unwrap();
        let string = &rest[start + 1..end];
        let length = length(string);
        text += &rest[..start];
        text += &format!("(i32.const {at}) (i32.const {length})");
        data += &format!("(data (i32.const {at}) \"{string}\")");
        at += length;
        rest = &rest[end + 2..];
    }
    (text + rest, data)
}

/// Bytes of a text in which `\hh` is one byte.
fn length(string: &str) -> usize {
    string.len() - 2 * string.matches('\\').count()
}
