//! Serialized maps: a guest hands over the input as its request's headers, asks for them, and hands over what it got as
//! the headers of its response. What the decoder takes is what the encoder gives.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis_vm::{Fields, Phase, Plugin, Streams};
use portcullis_vm_fuzz::host::{self, Record, Recorder};
use portcullis_vm_fuzz::{Guest, spec};

static GUEST: Guest = Guest::new();

/// Of a head that was taken whole: each of these is one that a request can have.
fn check_names(headers: &Fields) {
    for (name, value) in headers.iter() {
        let is_foreign = |byte: &u8| matches!(byte, b':' | b' ' | b'\r' | b'\n' | 0);
        assert!(!name.is_empty() && !name.iter().any(is_foreign));
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    assert!(headers.len() <= 1024);
}

const BODY: &str = r#"
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $proxy_get_buffer_bytes (i32.const 7) (i32.const 0) (i32.const -1) OUT))
    (drop (call $proxy_set_header_map_pairs (i32.const 0)
      (i32.load (i32.const 16)) (i32.load (i32.const 20))))
    (drop (call $proxy_get_header_map_pairs (i32.const 0) OUT))
    (drop (call $proxy_set_header_map_pairs (i32.const 2)
      (i32.load (i32.const 16)) (i32.load (i32.const 20))))
    (i32.const 0))"#;

fuzz_target!(|input: &[u8]| {
    let module = GUEST.module(|| host::wat(BODY));
    let services = Box::new(Recorder(Record::default().into()));
    let mut plugin = Plugin::start(module, spec(input), services).expect("it starts");
    let mut streams = Streams::default();
    let mut stream = host::stream();
    stream.response = Some(host::response(200, &[]));
    let key = streams.insert(stream);
    let context = plugin.create_context(&mut streams, key).expect("it lives");
    plugin.run(&mut streams, context, Phase::RequestHeaders, true).expect("no map is a trap");
    let stream = streams.get(key).expect("it is there");
    let response = stream.response.as_ref().expect("it is there");
    check_names(&stream.request.headers);
    if stream.request.headers.len() + 4 <= 1024 {
        assert_eq!(stream.request.headers, response.headers);
    }
    let is_target = |part: &Bytes| part.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    assert!(!stream.request.path.is_empty() && is_target(&stream.request.path));
    assert!(is_target(&stream.request.authority) && is_target(&stream.request.scheme));
});
