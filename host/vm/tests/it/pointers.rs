//! Pointers that lead nowhere, and allocators that do too much.

use portcullis_vm::{Phase, TrapReason};

use crate::host::{Host, bare, callback, spec};

/// Calls with a pointer beyond memory, wherever a call takes one.
const BAD: &[&str] = &[
    "$proxy_log (i32.const 2) (i32.const 0xFFFFFF00) (i32.const 8)",
    "$proxy_log (i32.const 2) (i32.const 8) (i32.const 0xFFFFFFFF)",
    "$proxy_get_log_level (i32.const 0xFFFFFFFE)",
    "$proxy_get_current_time_nanoseconds (i32.const 131065)",
    "$proxy_get_header_map_value (i32.const 0) \"x-one\"S (i32.const 0xFFFFFFF0) (i32.const 16)",
    "$proxy_get_header_map_value (i32.const 0) \"x-one\"S (i32.const 16) (i32.const 0xFFFFFFF0)",
    "$proxy_get_header_map_value (i32.const 0) (i32.const 0xFFFFFFF0) (i32.const 4) OUT",
    "$proxy_add_header_map_value (i32.const 0) \"k\"S (i32.const 0xFFFFFFF0) (i32.const 32)",
    "$proxy_get_header_map_pairs (i32.const 0) (i32.const 131070) (i32.const 16)",
    "$proxy_set_header_map_pairs (i32.const 0) (i32.const 131071) (i32.const 2)",
    "$proxy_get_property (i32.const 131071) (i32.const 2) OUT",
    "$proxy_get_buffer_bytes (i32.const 6) (i32.const 0) (i32.const 9) (i32.const 131070) (i32.const 16)",
];

#[test]
fn a_bad_pointer_ends_a_guest_of_the_rust_sdk() {
    for call in BAD {
        let mut host = Host::new(&callback(&format!("(drop (call {call}))")));
        let trap = host.run(Phase::RequestHeaders).unwrap_err();
        assert_eq!(trap.reason, TrapReason::Trap, "{call}");
        assert!(trap.message.contains("bad pointer in proxy_"), "{call}: {trap}");
        assert_eq!(host.streams.len(), 1);
    }
}

const PLAIN: &str = r#"
    (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_value"
      (func $proxy_get_header_map_value (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "proxy_abi_version_0_2_1"))"#;

fn plain(allocate: &str, code: &str) -> Host {
    let text = bare(&format!(
        r#"{PLAIN} (func (export "malloc") (param i32) (result i32) {allocate}) {}"#,
        callback(code)
    ));
    Host::start(&text, spec()).unwrap()
}

const READ: &str = r#"(call $proxy_get_header_map_value (i32.const 0) "x-one"S OUT)"#;

#[test]
fn other_guests_are_told_of_a_bad_pointer() {
    let mut host = plain(
        "(i32.const 512)",
        &format!(
            r#"(if (i32.ne (i32.const 6) (call $proxy_log (i32.const 2) (i32.const -16) (i32.const 8))) (then unreachable))
               (if (i32.ne (i32.const 0) {READ}) (then unreachable))
               (if (i32.ne (i32.const 512) (i32.load (i32.const 16))) (then unreachable))"#
        ),
    );
    host.run(Phase::RequestHeaders).unwrap();
}

/// Calls that hand over what the host keeps, with a length that no memory has.
const HANDED_OVER: &[&str] = &[
    r#"$proxy_add_header_map_value (i32.const 0) "k"S (i32.const 8) (i32.const -1)"#,
    "$proxy_set_header_map_pairs (i32.const 0) (i32.const 8) (i32.const -1)",
    "$proxy_set_shared_data (i32.const -2) (i32.const -2) (i32.const 0) (i32.const 0) (i32.const 0)",
    r#"$proxy_define_metric (i32.const 0) (i32.const 8) (i32.const 0x7FFFFFFF) (i32.const 16)"#,
    "$proxy_register_shared_queue (i32.const 8) (i32.const -1) (i32.const 16)",
    "$proxy_enqueue_shared_queue (i32.const 1) (i32.const 8) (i32.const -1)",
];

#[test]
fn a_length_that_no_memory_has_is_a_bad_pointer_and_not_too_much_memory() {
    for call in HANDED_OVER {
        let mut host = Host::new(&callback(&format!("(drop (call {call}))")));
        let trap = host.run(Phase::RequestHeaders).unwrap_err();
        assert_eq!(trap.reason, TrapReason::Trap, "{call}: {trap}");
        assert!(trap.message.contains("bad pointer in proxy_"), "{call}: {trap}");
    }
}

#[test]
fn an_allocator_that_answers_nonsense_is_a_bad_pointer() {
    for address in ["0", "-4", "131072"] {
        let mut host = plain(
            &format!("(i32.const {address})"),
            &format!("(if (i32.ne (i32.const 6) {READ}) (then unreachable))"),
        );
        host.run(Phase::RequestHeaders).unwrap();
    }
}

#[test]
fn an_allocator_may_log_but_not_call_anything_else() {
    let log = r#"(drop (call $proxy_log (i32.const 2) "allocating"S)) (i32.const 512)"#;
    let mut host = plain(log, &format!("(drop {READ})"));
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), ["allocating"]);

    let mut host = plain(READ, &format!("(drop {READ})"));
    let trap = host.run(Phase::RequestHeaders).unwrap_err();
    assert_eq!(trap.reason, TrapReason::Trap);
    assert!(trap.message.contains("from its memory allocator"), "{trap}");
}

#[test]
fn an_allocator_that_traps_ends_the_callback() {
    let mut host = plain("unreachable", &format!("(drop {READ})"));
    let trap = host.run(Phase::RequestHeaders).unwrap_err();
    assert_eq!(trap.reason, TrapReason::Trap);
    assert_eq!(host.streams.len(), 1);
}

#[test]
fn a_guest_without_memory_can_name_no_bytes() {
    let mut host = Host::start(
        &bare(
            r#"(import "env" "proxy_set_shared_data"
                 (func $set (param i32 i32 i32 i32 i32) (result i32)))
               (func (export "proxy_abi_version_0_2_1"))
               (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                 (if (call $set (i32.const 8) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0))
                   (then unreachable))
                 (call $set (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 0) (i32.const 0)))"#,
        ),
        spec(),
    )
    .unwrap();
    host.run(Phase::RequestHeaders).unwrap();
}

#[test]
fn an_empty_span_may_point_anywhere() {
    let mut host = plain(
        "(i32.const 512)",
        "(drop (call $proxy_log (i32.const 2) (i32.const -1) (i32.const 0)))",
    );
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), [""]);
}
