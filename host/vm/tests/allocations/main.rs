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
/// For the first reading of a part of the head that is shared from then on, by whoever reads it first. Lower it when it
/// takes less.
const SHARING: Taken = Taken { blocks: 1, bytes: 24 };

/// A request as the embedder has read it: header values share what was read, path and authority own their bytes.
fn request() -> Box<HttpStream> {
    let mut stream = host::stream();
    drop(stream.request.headers.clone());
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
fn reading_headers_allocates_nothing_but_what_shares_them() {
    let cases = [
        (":method", 0, NOTHING),
        (":path", 0, SHARING),
        (":authority", 0, SHARING),
        ("x-one", 0, NOTHING),
        ("x-absent", 1, NOTHING),
    ];
    for (name, status, ceiling) in cases {
        let get = format!(
            r#"(if (i32.ne (i32.const {status})
                   (call $proxy_get_header_map_value (i32.const 0) "{name}"S OUT))
                 (then unreachable))"#
        );
        in_callback(&format!("reading {name}"), ceiling, &get);
    }
    let all = "(if (call $proxy_get_header_map_pairs (i32.const 0) OUT) (then unreachable))";
    in_callback("reading all headers", NOTHING, all);
}

#[test]
fn the_whole_life_of_a_stream_whose_headers_are_set_to_what_they_always_are_allocates_nothing() {
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
