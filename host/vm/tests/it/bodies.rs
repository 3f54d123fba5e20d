//! Buffers: bodies, configurations, and how a guest changes them.

use bytes::Bytes;
use portcullis_vm::Phase;

use crate::host::{Host, callback, check};

fn in_body(code: &str) -> Host {
    let mut host = Host::new(&callback(code).replace("request_headers", "request_body"));
    for chunk in ["Hello", " ", "World"] {
        host.stream().request_body.push(Bytes::from_static(chunk.as_bytes()));
    }
    host
}

fn body(host: &mut Host) -> String {
    let mut text = Vec::new();
    host.stream().request_body.read(0, usize::MAX, |run| text.extend_from_slice(run));
    String::from_utf8(text).unwrap()
}

#[test]
fn a_guest_reads_any_part_of_a_body() {
    let cases = [
        ("0", "0xFFFFFFFF", "Hello World"),
        ("0", "5", "Hello"),
        ("3", "5", "lo Wo"),
        ("10", "100", "d"),
        ("11", "1", ""),
        ("0xFFFFFFFF", "0xFFFFFFFF", ""),
        ("2", "0", ""),
    ];
    for (start, max, expected) in cases {
        let mut host = in_body(&format!(
            "(call $say32 (call $proxy_get_buffer_bytes (i32.const 0) (i32.const {start}) (i32.const {max}) OUT))
             (call $say_out)"
        ));
        host.run(Phase::RequestBody).unwrap();
        assert_eq!(host.said(), ["0", expected], "{start} {max}");
    }
}

#[test]
fn a_guest_splices_a_body_as_the_specification_says() {
    let cases = [
        ("0", "0", "Oh, ", "Oh, Hello World"),
        ("0", "0", "", "Hello World"),
        ("0", "0xFFFFFFFF", "new", "new"),
        ("0", "5", "Bye", "Bye World"),
        ("5", "3", "-wasm-", "Hello-wasm-rld"),
        ("11", "0", "!", "Hello World!"),
        ("0x7FFFFFFF", "0", "!", "Hello World!"),
        ("6", "0xFFFFFFFF", "", "Hello "),
    ];
    for (start, length, text, expected) in cases {
        let mut host = in_body(&format!(
            r#"(call $say32 (call $proxy_set_buffer_bytes (i32.const 0) (i32.const {start}) (i32.const {length}) "{text}"S))"#
        ));
        host.run(Phase::RequestBody).unwrap();
        assert_eq!(host.said(), ["0"]);
        assert_eq!(body(&mut host), expected, "{start} {length} {text}");
    }
}

#[test]
fn a_body_outside_its_phase_reads_as_empty_and_cannot_be_written() {
    let mut host = Host::new(&callback(
        r#"(call $say32 (call $proxy_get_buffer_bytes (i32.const 1) (i32.const 0) (i32.const 9) OUT))
           (call $say32 (call $proxy_set_buffer_bytes (i32.const 0) (i32.const 0) (i32.const 0) "x"S))
           (call $say32 (call $proxy_set_buffer_bytes (i32.const 7) (i32.const 0) (i32.const 0) "x"S))
           (call $say32 (call $proxy_get_buffer_bytes (i32.const 4) (i32.const 0) (i32.const 9) OUT))
           (call $say32 (call $proxy_get_buffer_bytes (i32.const 10) (i32.const 0) (i32.const 9) OUT))"#,
    ));
    host.run(Phase::RequestHeaders).unwrap();
    let numbers: Vec<_> = host.said().into_iter().filter(|line| line.len() == 1).collect();
    assert_eq!(numbers, ["0", "0", "0", "1", "2"]);
    assert_eq!(
        host.record.violations(),
        ["proxy_get_buffer_bytes", "proxy_set_buffer_bytes", "proxy_set_buffer_bytes"]
    );
    assert!(host.stream().request_body.is_empty());
}

#[test]
fn configurations_are_readable_and_their_sizes_are_told() {
    let read = |buffer: u32| {
        format!(
            "(drop (call $proxy_get_buffer_bytes (i32.const {buffer}) (i32.const 0) (i32.const -1) OUT))
             (call $say32 (local.get 1)) (call $say_out) (i32.const 1)"
        )
    };
    let host = Host::new(&format!(
        r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) {})
           (func (export "proxy_on_configure") (param i32 i32) (result i32) {})"#,
        read(6),
        read(7),
    ));
    assert_eq!(host.said(), ["11", "vm settings", "15", "{\"plugin\":true}"]);
}

#[test]
fn the_length_of_a_buffer_is_told() {
    check(
        "(call $say32 (call $proxy_get_buffer_status (i32.const 6) (i32.const 16) (i32.const 20)))
         (call $say32 (i32.load (i32.const 16))) (call $say32 (i32.load (i32.const 20)))",
        &["0", "11", "0"],
    );
}

#[test]
fn a_body_callback_is_told_the_size_of_what_it_sees() {
    let mut host = in_body("(call $say32 (local.get 1)) (call $say32 (local.get 2))");
    host.run_last(Phase::RequestBody).unwrap();
    assert_eq!(host.said(), ["11", "1"]);
}
