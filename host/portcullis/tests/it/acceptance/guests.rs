//! The filters of the acceptance tests.

use crate::frame;

fn module(strings: &[(&str, &str)], body: &str) -> Vec<u8> {
    wat::parse_str(frame::text(strings, body)).unwrap()
}

/// Marks an exchange with `version` and the first byte of its configuration: `x-guest` on the request and the response,
/// and once more behind the response's body.
pub fn stamp(version: char) -> Vec<u8> {
    module(
        &[("name", "x-guest"), ("length", "content-length")],
        &format!(
            r#"(data (i32.const 8) "{version}?")
               (func (export "proxy_on_configure") (param i32 i32) (result i32)
                 (drop (call $get_body (i32.const 7) (i32.const 0) (i32.const 1)
                   (i32.const 0) (i32.const 4)))
                 (i32.store8 (i32.const 9) (i32.load8_u (i32.load (i32.const 0))))
                 (i32.const 1))
               (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                 (drop (call $replace (i32.const 0) $name$ (i32.const 8) (i32.const 2)))
                 (i32.const 0))
               (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
                 (drop (call $remove (i32.const 2) $length$))
                 (drop (call $replace (i32.const 2) $name$ (i32.const 8) (i32.const 2)))
                 (i32.const 0))
               (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
                 (if (local.get 2) (then (drop (call $set_body
                   (i32.const 1) (local.get 1) (i32.const 0) (i32.const 8) (i32.const 2)))))
                 (i32.const 0))"#
        ),
    )
}

/// Starts, and refuses its configuration.
pub fn refusing() -> Vec<u8> {
    module(
        &[("why", "I do not like this")],
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $log (i32.const 4) $why$)) (i32.const 0))"#,
    )
}

/// Does what the header `x-bad` of a request says: `loop` for ever, `eat` memory without end, or `panic`.
pub fn misbehaving() -> Vec<u8> {
    module(
        &[("bad", "x-bad"), ("last", "panicked at 'on purpose'")],
        r#"(func $does (param $letter i32) (result i32)
             (i32.eq (i32.load8_u (i32.load (i32.const 0))) (local.get $letter)))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (if (call $get (i32.const 0) $bad$ (i32.const 0) (i32.const 4))
               (then (return (i32.const 0))))
             (if (call $does (i32.const 108)) (then (loop $for_ever (br $for_ever))))
             (if (call $does (i32.const 101)) (then
               (loop $more
                 (if (i32.eq (memory.grow (i32.const 64)) (i32.const -1)) (then (unreachable)))
                 (i32.store (i32.shl (i32.sub (memory.size) (i32.const 1)) (i32.const 16))
                            (i32.const 1))
                 (br $more))))
             (if (call $does (i32.const 112)) (then
               (drop (call $log (i32.const 5) $last$)) (unreachable)))
             (i32.const 0))"#,
    )
}

/// Holds each body until it is complete, reads all of it, and writes it back: a request's with `Q` for its first byte, a
/// response's with `R` for its last.
pub fn rewriting() -> Vec<u8> {
    module(
        &[],
        r#"(func $rewrite (param $which i32) (param $end i32) (param $letter i32) (result i32)
             (local $data i32) (local $size i32)
             (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
             (drop (call $get_body (local.get $which) (i32.const 0) (i32.const 0x7fffffff)
               (i32.const 0) (i32.const 4)))
             (local.set $data (i32.load (i32.const 0)))
             (local.set $size (i32.load (i32.const 4)))
             (if (i32.eqz (local.get $size)) (then (return (i32.const 0))))
             (i32.store8
               (i32.add (local.get $data)
                 (i32.mul (local.get $which) (i32.sub (local.get $size) (i32.const 1))))
               (local.get $letter))
             (drop (call $set_body (local.get $which) (i32.const 0) (i32.const 0x7fffffff)
               (local.get $data) (local.get $size)))
             (i32.const 0))
           (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             (call $rewrite (i32.const 0) (local.get 2) (i32.const 81)))
           (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
             (call $rewrite (i32.const 1) (local.get 2) (i32.const 82)))"#,
    )
}

/// Marks heads and never asks for a body.
pub fn passing() -> Vec<u8> {
    module(
        &[("name", "x-passed"), ("value", "yes")],
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (drop (call $replace (i32.const 0) $name$ $value$)) (i32.const 0))
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (drop (call $replace (i32.const 2) $name$ $value$)) (i32.const 0))"#,
    )
}

/// Marks an exchange with `alone`, or `crowd` when the instance has another one: `x-guest` on the request, and once more
/// behind the response's body. Traps where the first letter of a request's `x-bad` says: at the end of the request
/// (`r`), at the end of the response (`b`), or when it is over (`l`).
pub fn alone() -> Vec<u8> {
    module(
        &[
            ("bad", "x-bad"),
            ("name", "x-guest"),
            ("length", "content-length"),
            ("alone", "alone"),
            ("crowd", "crowd"),
        ],
        r#"(func $trap (param $letter i32)
             (if (i32.eqz (call $get (i32.const 0) $bad$ (i32.const 0) (i32.const 4))) (then
               (if (i32.eq (i32.load8_u (i32.load (i32.const 0))) (local.get $letter))
                 (then (unreachable))))))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (global.set $waiting (i32.add (global.get $waiting) (i32.const 1)))
             (if (i32.eq (global.get $waiting) (i32.const 1))
               (then (drop (call $replace (i32.const 0) $name$ $alone$)))
               (else (drop (call $replace (i32.const 0) $name$ $crowd$))))
             (i32.const 0))
           (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             (if (local.get 2) (then (call $trap (i32.const 114)))) (i32.const 0))
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (drop (call $remove (i32.const 2) $length$)) (i32.const 0))
           (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
             (if (i32.eqz (local.get 2)) (then (return (i32.const 0))))
             (call $trap (i32.const 98))
             (if (i32.eq (global.get $waiting) (i32.const 1))
               (then (drop (call $set_body (i32.const 1) (local.get 1) (i32.const 0) $alone$)))
               (else (drop (call $set_body (i32.const 1) (local.get 1) (i32.const 0) $crowd$))))
             (i32.const 0))
           (func (export "proxy_on_log") (param i32)
             (call $trap (i32.const 108))
             (global.set $waiting (i32.sub (global.get $waiting) (i32.const 1))))"#,
    )
}
