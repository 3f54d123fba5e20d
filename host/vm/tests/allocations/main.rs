//! What guests that run take from the heap.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

#[path = "../../../allocations.rs"]
mod allocations;
#[allow(dead_code, unused_imports, reason = "made for the other tests, which need more of it")]
#[path = "../it/host/mod.rs"]
mod host;

use std::sync::Arc;

use bytes::Bytes;
use portcullis_vm::{HttpStream, Phase};

use allocations::{Alone, Taken};
use host::{Host, callback, response};

const NOTHING: Taken = Taken { blocks: 0, bytes: 0 };

/// A request as the embedder has read it: path and authority own their bytes.
fn request() -> Box<HttpStream> {
    let mut stream = host::stream();
    let head = Arc::make_mut(&mut stream.request);
    head.authority = Bytes::copy_from_slice(&head.authority);
    head.path = Bytes::copy_from_slice(&head.path);
    stream
}

/// Holds what `code` takes in a callback for the head of a new request against a ceiling.
fn in_callback(what: &str, ceiling: Taken, code: &str) {
    let alone = Alone::new();
    let reused = "(global.set $heap (i32.const 65536))";
    let mut host = Host::new(&callback(&(reused.to_owned() + code)));
    alone.check(what, ceiling, request, |stream| {
        *host.stream() = *stream;
        host.run(Phase::RequestHeaders).unwrap();
    });
}

#[test]
fn a_callback_that_does_nothing_allocates_nothing() {
    in_callback("a callback", NOTHING, "");
}

#[test]
fn reading_headers_allocates_nothing() {
    let cases = [(":method", 0), (":path", 0), (":authority", 0), ("x-one", 0), ("x-absent", 1)];
    for (name, status) in cases {
        let get = format!(
            r#"(if (i32.ne (i32.const {status})
                   (call $proxy_get_header_map_value (i32.const 0) "{name}"S OUT))
                 (then unreachable))"#
        );
        in_callback(&format!("reading {name}"), NOTHING, &get);
    }
    let all = "(if (call $proxy_get_header_map_pairs (i32.const 0) OUT) (then unreachable))";
    in_callback("reading all headers", NOTHING, all);
}

#[test]
fn reading_a_property_that_is_a_header_allocates_nothing() {
    for path in ["request\\00path", "request\\00host", "request\\00headers\\00x-one"] {
        let get = format!(r#"(if (call $proxy_get_property "{path}"S OUT) (then unreachable))"#);
        in_callback(&format!("reading {path}"), NOTHING, &get);
    }
}

#[test]
fn changing_headers_allocates_nothing_while_there_is_room() {
    let call = |call: &str, value: &str| {
        format!(r#"(drop (call $proxy_{call}_header_map_value (i32.const 0) "x-new"S {value}))"#)
    };
    let code = call("add", r#""1"S"#)
        + &call("replace", r#""something longer"S"#)
        + &call("replace", r#""shorter"S"#)
        + &call("remove", "");
    in_callback("adding, replacing and removing a header", NOTHING, &code);
}

/// A copy takes as much as there is to be copied, which is what the fields hold on to.
#[test]
fn what_a_header_was_set_to_before_is_not_kept() {
    let alone = Alone::new();
    let mut fields = host::headers(&[("x-first", "1"), ("x-new", ""), ("x-last", "2")]);
    for at in 0..100_000 {
        let value = "v".repeat(at * 37 % 500);
        fields.insert("x-new", &value).unwrap();
        fields.remove("x-last");
        fields.append("x-last", &value).unwrap();
    }
    let ceiling = Taken { blocks: 2, bytes: 4096 };
    alone.check("a copy of what was set 100,000 times", ceiling, || (), |()| drop(fields.clone()));
}

#[test]
fn the_whole_life_of_a_stream_whose_headers_are_set_allocates_nothing() {
    let alone = Alone::new();
    let set = |map: u32| {
        format!(
            r#"(drop (call $proxy_replace_header_map_value (i32.const {map}) "x-filter"S "seen"S))"#
        )
    };
    let mut host = Host::new(
        &(callback(&set(0))
            + &callback(&set(2)).replace("request_headers", "response_headers")
            + r#"(func (export "proxy_on_context_create") (param i32 i32))
                 (func (export "proxy_on_log") (param i32))
                 (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
                 (func (export "proxy_on_delete") (param i32))"#),
    );
    let prepare = || (request(), response(200, &[("server", "backend")]));
    alone.check("the life of a stream", NOTHING, prepare, |(stream, response)| {
        let key = host.streams.insert(stream);
        let context = host.plugin.create_context(&mut host.streams, key).unwrap();
        host.plugin.run(&mut host.streams, context, Phase::RequestHeaders, true).unwrap();
        host.streams.get_mut(key).unwrap().response = Some(response);
        host.plugin.run(&mut host.streams, context, Phase::ResponseHeaders, true).unwrap();
        host.plugin.finish(&mut host.streams, context).unwrap();
        host.streams.remove(key);
    });
}
