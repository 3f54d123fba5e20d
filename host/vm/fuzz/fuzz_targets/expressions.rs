//! Expressions: a guest has the input compiled and evaluated. Whatever the text is, that takes no long time and little
//! memory, and is no trap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_vm::{Phase, Plugin, Streams};
use portcullis_vm_fuzz::host::{self, Record, Recorder};
use portcullis_vm_fuzz::{Guest, spec};

static GUEST: Guest = Guest::new();

const BODY: &str = r#"
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $proxy_get_buffer_bytes (i32.const 7) (i32.const 0) (i32.const -1) OUT))
    (drop (call $proxy_call_foreign_function "expr_create"S
      (i32.load (i32.const 16)) (i32.load (i32.const 20)) OUT))
    (i32.store (i32.const 24) (i32.load (i32.const 16)))
    (if (i32.eqz (i32.load (i32.const 24))) (then (return (i32.const 0))))
    (drop (call $proxy_call_foreign_function "expr_evaluate"S (i32.load (i32.const 24)) (i32.const 4) OUT))
    (drop (call $proxy_call_foreign_function "expr_delete"S (i32.load (i32.const 24)) (i32.const 4) OUT))
    (i32.const 0))"#;

fuzz_target!(|input: &[u8]| {
    let module = GUEST.module(|| host::wat(BODY));
    let services = Box::new(Recorder(Record::default().into()));
    let mut plugin = Plugin::start(module, spec(input), services).expect("it starts");
    let mut streams = Streams::default();
    let key = streams.insert(host::stream());
    let context = plugin.create_context(&mut streams, key).expect("it lives");
    plugin
        .run(&mut streams, context, Phase::RequestHeaders, true)
        .expect("no expression is a trap");
});
