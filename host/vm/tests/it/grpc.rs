//! gRPC callouts: what is refused, what is recorded, what comes back and in which callback, and their one completion.

use std::time::Duration;

use bytes::Bytes;
use portcullis_vm::{CallId, Effect, Fields, GrpcEvent, Phase};

use crate::host::{Host, callback, headers, pairs, response};

const UNARY: CallId = CallId(5);
const STREAM: CallId = CallId(6);

/// Each callback says its name, its numbers, and what it can read.
const CALLBACKS: &str = r#"
    (func $tell (param i32 i32 i32)
      (call $say32 (local.get 0)) (call $say32 (local.get 1)) (call $say32 (local.get 2))
      (if (i32.eqz (call $proxy_get_header_map_value (i32.const 4) ":status"S OUT)) (then
        (call $say "initial"S) (call $say_out)))
      (if (i32.eqz (call $proxy_get_header_map_value (i32.const 5) "x-end"S OUT)) (then
        (call $say "trailing"S) (call $say_out)))
      (if (i32.eqz (call $proxy_get_buffer_bytes (i32.const 5) (i32.const 0) (i32.const -1) OUT)) (then
        (call $say "message"S) (call $say_out)))
      (drop (call $proxy_get_status (i32.const 24) OUT))
      (call $say32 (i32.load (i32.const 24))) (call $say_out))
    (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
      (call $say "on initial"S) (call $tell (local.get 0) (local.get 1) (local.get 2)))
    (func (export "proxy_on_grpc_receive") (param i32 i32 i32)
      (call $say "on message"S) (call $tell (local.get 0) (local.get 1) (local.get 2)))
    (func (export "proxy_on_grpc_trailing_metadata") (param i32 i32 i32)
      (call $say "on trailing"S) (call $tell (local.get 0) (local.get 1) (local.get 2)))
    (func (export "proxy_on_grpc_close") (param i32 i32 i32)
      (call $say "on close"S) (call $tell (local.get 0) (local.get 1) (local.get 2)))"#;

fn parts(upstream: &str) -> String {
    let metadata = pairs(&[("x-key", "1"), ("te", "gzip"), (":path", "/")]);
    format!(r#""{upstream}"S "pkg.Service"S "Method"S "{metadata}"S"#)
}

fn unary(upstream: &str, timeout: u32) -> String {
    format!(
        r#"(i32.store (i32.const 32) (i32.const 77))
           (call $say32 (call $proxy_grpc_call {} "question"S (i32.const {timeout}) (i32.const 32)))
           (call $say32 (i32.load (i32.const 32)))"#,
        parts(upstream)
    )
}

fn open(upstream: &str) -> String {
    format!(
        r#"(i32.store (i32.const 32) (i32.const 77))
           (call $say32 (call $proxy_grpc_stream {} (i32.const 32)))
           (call $say32 (i32.load (i32.const 32)))"#,
        parts(upstream)
    )
}

fn send(id: u32, message: &str, end: u32) -> String {
    format!(
        r#"(call $say32 (call $proxy_grpc_send (i32.const {id}) "{message}"S (i32.const {end})))"#
    )
}

fn cancel(id: u32) -> String {
    format!("(call $say32 (call $proxy_grpc_cancel (i32.const {id})))")
}

fn close(id: u32) -> String {
    format!("(call $say32 (call $proxy_grpc_close (i32.const {id})))")
}

fn start(code: &str) -> Host {
    let mut host = Host::new(&(callback(code) + CALLBACKS));
    host.run(Phase::RequestHeaders).unwrap();
    host
}

/// A guest that calls in the head phase and does `later` in the body phase.
fn start_and(code: &str, later: &str) -> Host {
    let later = callback(later).replace("request_headers", "request_body");
    let mut host = Host::new(&(callback(code) + &later + CALLBACKS));
    host.run(Phase::RequestHeaders).unwrap();
    host.said();
    host
}

impl Host {
    fn event(&mut self, call: CallId, event: GrpcEvent) -> Vec<String> {
        self.plugin.grpc_event(&mut self.streams, call, event).unwrap();
        self.said()
    }
}

fn message(text: &'static str) -> GrpcEvent {
    GrpcEvent::Message(Bytes::from_static(text.as_bytes()))
}

fn closed(status: u32, message: &str) -> GrpcEvent {
    GrpcEvent::Closed { status, message: message.to_owned() }
}

fn initial() -> GrpcEvent {
    GrpcEvent::InitialMetadata(Some(response(200, &[("x-a", "b")])))
}

fn trailing() -> GrpcEvent {
    GrpcEvent::TrailingMetadata(headers(&[("x-end", "done")]))
}

#[test]
fn a_unary_call_is_recorded_with_all_its_parts() {
    let mut host = start(&unary("backend", 250));
    assert_eq!(host.said(), ["0", "5"]);
    let effects = host.effects();
    let [Effect::GrpcCall(call)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((call.id, call.upstream.as_str()), (UNARY, "backend"));
    assert_eq!((call.path.as_str(), call.authority.as_str()), ("/pkg.Service/Method", ""));
    assert_eq!(call.metadata, headers(&[("x-key", "1")]));
    assert_eq!(call.message.as_deref(), Some(&b"question"[..]));
    assert_eq!(call.timeout, Some(Duration::from_millis(250)));
    assert_eq!(host.plugin.made_for(UNARY), Some(host.key));
}

#[test]
fn a_stream_is_recorded_with_what_is_sent_on_it() {
    let code = open("backend") + &send(6, "one", 0) + &send(6, "two", 1) + &send(6, "late", 0);
    let mut host = start(&code);
    let said = host.said();
    assert_eq!(said.first().map(String::as_str), Some("0"));
    assert_eq!((said[1].as_str(), said[2].as_str(), said[3].as_str()), ("6", "0", "0"));
    assert_eq!(said.last().map(String::as_str), Some("0"));
    let effects = host.effects();
    let [
        Effect::GrpcCall(call),
        Effect::GrpcSend(STREAM, one),
        Effect::GrpcSend(STREAM, two),
        Effect::GrpcClose(STREAM),
    ] = effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!((call.id, &call.message, call.timeout), (STREAM, &None, None));
    assert_eq!((&one[..], &two[..]), (&b"one"[..], &b"two"[..]));
    assert_eq!(host.record.violations(), ["proxy_grpc_send"]);
}

#[test]
fn an_upstream_may_be_named_by_a_message_of_envoys() {
    // envoy_grpc { cluster_name: "backend", authority: "auth.example" } initial_metadata { key: "x-tenant" value: "7" }
    let grpc = "\\0a\\07backend\\12\\0cauth.example";
    let metadata = "\\0a\\08x-tenant\\12\\017";
    let service = format!("\\0a\\17{grpc}\\1a\\02\\08\\05\\2a\\0d{metadata}");
    let mut host = start(&open(&service));
    assert_eq!(host.said(), ["0", "6"]);
    let effects = host.effects();
    let [Effect::GrpcCall(call)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((call.upstream.as_str(), call.authority.as_str()), ("backend", "auth.example"));
    assert_eq!(call.metadata, headers(&[("x-tenant", "7"), ("x-key", "1")]));
}

#[test]
fn a_call_that_cannot_be_made_is_a_parse_failure_and_leaves_no_id() {
    let good = parts("backend");
    let with = |from: &str, to: &str| {
        let parts = good.replace(from, to);
        format!(
            r#"(call $say32 (call $proxy_grpc_call {parts} "question"S (i32.const 0) (i32.const 32)))
               (call $say32 (i32.load (i32.const 32)))"#
        )
    };
    let cases = [
        unary("unknown", 0),
        open("unknown"),
        open("\\ff"),
        open(""),
        // A message of Envoy's that names an unknown cluster, and one that breaks off.
        open("\\0a\\07\\0a\\05other"),
        open("\\0a\\7f\\0a\\07backend"),
        with("pkg.Service", "pkg Service"),
        with("Method", ""),
        with(&pairs(&[("x-key", "1"), ("te", "gzip"), (":path", "/")]), "\\09\\00\\00\\00"),
    ];
    for code in cases {
        let mut host = start(&code);
        assert_eq!(host.said(), ["4", "0"], "{code}");
        assert_eq!(host.plugin.outstanding_calls(), 0);
        assert!(host.effects().is_empty());
    }
}

#[test]
fn a_unary_call_ends_with_a_message_or_with_a_close() {
    let twice = unary("backend", 0) + &unary("backend", 0);
    let mut host = start(&twice);
    assert_eq!(host.said(), ["0", "5", "0", "9"]);
    // Metadata are for streams.
    assert!(host.event(UNARY, initial()).is_empty());
    let said = host.event(UNARY, message("answer"));
    assert_eq!(said, ["on message", "1", "5", "6", "message", "answer", "0", ""]);
    assert!(host.event(UNARY, closed(0, "")).is_empty());
    assert!(host.event(UNARY, message("again")).is_empty());
    assert_eq!(host.plugin.outstanding_calls(), 1);
    assert!(host.event(CallId(9), trailing()).is_empty());
    let said = host.event(CallId(9), closed(7, "no entry"));
    assert_eq!(said, ["on close", "1", "9", "7", "7", "no entry"]);
    assert_eq!(host.plugin.outstanding_calls(), 0);
    assert!(host.event(CallId(9), closed(7, "no entry")).is_empty());
}

#[test]
fn a_stream_gets_metadata_messages_and_one_close() {
    let mut host = start(&open("backend"));
    host.said();
    let said = host.event(STREAM, initial());
    assert_eq!(said, ["on initial", "1", "6", "2", "initial", "200", "0", ""]);
    for text in ["one", "two"] {
        let said = host.event(STREAM, message(text));
        assert_eq!(said, ["on message", "1", "6", "3", "message", text, "0", ""]);
    }
    let said = host.event(STREAM, trailing());
    assert_eq!(said, ["on trailing", "1", "6", "1", "trailing", "done", "0", ""]);
    let said = host.event(STREAM, closed(0, ""));
    assert_eq!(said, ["on close", "1", "6", "0", "0", ""]);
    for event in [initial(), message("more"), trailing(), closed(0, "")] {
        assert!(host.event(STREAM, event).is_empty());
    }
}

#[test]
fn a_stream_goes_on_when_its_exchange_has_ended() {
    let mut host = start(&open("backend"));
    host.plugin.finish(&mut host.streams, host.context).unwrap();
    host.streams.remove(host.key);
    host.said();
    assert_eq!(host.plugin.made_for(STREAM), None);
    assert_eq!(host.event(STREAM, message("one")).len(), 8);
    assert_eq!(host.event(STREAM, closed(14, "gone")).last().map(String::as_str), Some("gone"));
    assert_eq!(host.plugin.outstanding_calls(), 0);
}

#[test]
fn after_a_cancel_nothing_comes() {
    for (begin, id) in [(unary("backend", 0), 5), (open("backend"), 6)] {
        let later = cancel(id) + &cancel(id) + &close(id);
        let mut host = start_and(&begin, &later);
        host.effects();
        host.run(Phase::RequestBody).unwrap();
        assert_eq!(host.said(), ["0", "1", "1"]);
        let effects = host.effects();
        assert!(matches!(effects.as_slice(), [Effect::GrpcCancel(CallId(call))] if *call == id));
        for event in [initial(), message("late"), trailing(), closed(0, "")] {
            assert!(host.event(CallId(id), event).is_empty());
        }
        assert_eq!(host.plugin.outstanding_calls(), 0);
    }
}

#[test]
fn closing_ends_one_half_of_a_stream_and_all_of_a_unary_call() {
    let mut host = start_and(&open("backend"), &(close(6) + &close(6)));
    host.effects();
    host.run(Phase::RequestBody).unwrap();
    assert_eq!(host.said(), ["0", "0"]);
    assert!(matches!(host.effects().as_slice(), [Effect::GrpcClose(STREAM)]));
    assert_eq!(host.event(STREAM, message("still")).len(), 8);
    assert_eq!(host.event(STREAM, closed(0, "")).len(), 6);

    let mut host = start_and(&unary("backend", 0), &close(5));
    host.effects();
    host.run(Phase::RequestBody).unwrap();
    assert_eq!(host.said(), ["0"]);
    assert!(matches!(host.effects().as_slice(), [Effect::GrpcCancel(UNARY)]));
    assert!(host.event(UNARY, message("late")).is_empty());
}

#[test]
fn a_stream_that_the_other_side_has_closed_is_there_until_the_guest_closes_it() {
    let later = send(6, "late", 0) + &close(6) + &send(6, "late", 0) + &close(6);
    let mut host = start_and(&open("backend"), &later);
    host.effects();
    host.event(STREAM, closed(0, ""));
    host.run(Phase::RequestBody).unwrap();
    let said: Vec<_> = host.said().into_iter().filter(|line| line.len() == 1).collect();
    assert_eq!(said, ["0", "0", "1", "1"]);
    assert!(host.effects().is_empty());
}

#[test]
fn numbers_that_are_no_stream_are_answered_as_sdks_expect() {
    let code = send(0, "", 0)
        + &send(5, "", 0)
        + &send(6, "", 0)
        + &cancel(0)
        + &cancel(4)
        + &cancel(5)
        + &cancel(6)
        + &close(0)
        + &close(5)
        + &close(6);
    let host = start(&code);
    assert_eq!(host.said(), ["2", "2", "1", "1", "1", "1", "1", "1", "1", "1"]);
}

#[test]
fn calls_and_streams_that_nothing_will_come_of_are_closed_once() {
    let mut host = start(&(unary("backend", 0) + &open("backend")));
    host.said();
    host.plugin.fail_calls(&mut host.streams).unwrap();
    let said = host.said();
    assert_eq!(said[..6], ["on close", "1", "5", "14", "14", "abandoned"]);
    assert_eq!(said[6..], ["on close", "1", "6", "14", "14", "abandoned"]);
    assert!(host.event(STREAM, closed(0, "")).is_empty());
}

#[test]
fn metadata_that_are_not_there_are_empty() {
    let mut host = start(&open("backend"));
    host.said();
    let said = host.event(STREAM, GrpcEvent::InitialMetadata(None));
    assert_eq!(said, ["on initial", "1", "6", "0", "0", ""]);
    let said = host.event(STREAM, GrpcEvent::TrailingMetadata(Fields::default()));
    assert_eq!(said, ["on trailing", "1", "6", "0", "0", ""]);
}
