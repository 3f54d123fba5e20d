//! Callouts: what is refused, what is recorded, and their one completion.

use std::time::Duration;

use bytes::Bytes;
use portcullis_vm::{CallId, CallOutcome, Effect, Phase};

use crate::host::{Host, callback, headers, pairs, response};

const HEAD: [(&str, &str); 4] =
    [(":method", "POST"), (":path", "/check"), (":authority", "auth.example"), ("x-key", "1")];

const RESPONSE: &str = r#"
    (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
      (call $say32 (local.get 0)) (call $say32 (local.get 1)) (call $say32 (local.get 2))
      (call $say32 (local.get 3)) (call $say32 (local.get 4))
      (drop (call $proxy_get_status (i32.const 24) OUT))
      (call $say32 (i32.load (i32.const 24))) (call $say_out)
      (call $say32 (call $proxy_get_header_map_value (i32.const 6) ":status"S OUT)) (call $say_out)
      (call $say32 (call $proxy_get_buffer_bytes (i32.const 4) (i32.const 0) (i32.const 99) OUT)) (call $say_out))"#;

fn call(upstream: &str, head: &[(&str, &str)], timeout: u32) -> String {
    format!(
        r#"(i32.store (i32.const 32) (i32.const 77))
           (call $say32 (call $proxy_http_call "{upstream}"S "{}"S "body"S "{}"S (i32.const {timeout}) (i32.const 32)))
           (call $say32 (i32.load (i32.const 32)))"#,
        pairs(head),
        pairs(&[("x-sum", "9")]),
    )
}

fn host(code: &str) -> Host {
    let broken = callback("unreachable").replace("request_headers", "request_body");
    let mut host = Host::new(&(callback(code) + RESPONSE + &broken));
    host.run(Phase::RequestHeaders).unwrap();
    host
}

#[test]
fn a_call_is_recorded_with_all_its_parts() {
    let mut host = host(&call("backend", &HEAD, 250));
    assert_eq!(host.said(), ["0", "4"]);
    assert_eq!(host.plugin.outstanding_calls(), 1);
    let effects = host.effects();
    let [Effect::HttpCall(call)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(call.id, CallId(4));
    assert_eq!(host.plugin.made_for(call.id), Some(host.key));
    assert_eq!(call.upstream, "backend");
    assert_eq!(call.head.method, "POST");
    assert_eq!(call.head.path, "/check");
    assert_eq!(call.head.authority, "auth.example");
    assert_eq!(call.head.headers, headers(&[("x-key", "1")]));
    assert_eq!(call.body, "body");
    assert_eq!(call.trailers, headers(&[("x-sum", "9")]));
    assert_eq!(call.timeout, Some(Duration::from_millis(250)));
}

#[test]
fn calls_on_the_way_are_limited_and_an_answer_makes_room() {
    let mut host = host(&call("backend", &HEAD, 250));
    for _ in 1..1024 {
        host.run(Phase::RequestHeaders).unwrap();
    }
    assert_eq!(host.plugin.outstanding_calls(), 1024);
    host.said();
    host.run(Phase::RequestHeaders).unwrap();
    assert!(host.said().contains(&"10".to_owned()));
    assert_eq!(host.record.violations(), ["proxy_http_call"]);
    let outcome = CallOutcome::Failed;
    host.plugin.http_call_response(&mut host.streams, CallId(4), outcome).unwrap();
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.plugin.outstanding_calls(), 1024);
}

#[test]
fn what_calls_on_the_way_hold_together_is_bounded_by_the_memory_limit() {
    let head = pairs(&HEAD);
    let code = format!(
        r#"(call $say32 (call $proxy_http_call "backend"S "{head}"S
             (i32.const 0) (i32.const 100000) ""S (i32.const 0) (i32.const 32)))"#
    );
    let mut host = host(&code);
    for _ in 0..50 {
        host.run(Phase::RequestHeaders).unwrap();
    }
    assert_eq!(host.plugin.outstanding_calls(), (4 << 20) / (100_000 + 100));
    assert!(host.record.violations().contains(&"proxy_http_call"));
    host.plugin.http_call_response(&mut host.streams, CallId(4), CallOutcome::Failed).unwrap();
    host.said();
    host.run(Phase::RequestHeaders).unwrap();
    host.run(Phase::RequestHeaders).unwrap();
    let said = host.said();
    assert_eq!((said.first(), said.last()), (Some(&"0".to_owned()), Some(&"10".to_owned())));
}

#[test]
fn a_call_that_cannot_be_made_is_a_bad_argument_and_leaves_no_id() {
    let without =
        |name: &str| HEAD.iter().copied().filter(|(key, _)| *key != name).collect::<Vec<_>>();
    let cases = [
        call("unknown", &HEAD, 0),
        call("\\ff", &HEAD, 0),
        call("backend", &without(":method"), 0),
        call("backend", &without(":path"), 0),
        call("backend", &without(":authority"), 0),
        call("backend", &HEAD, 0x8000_0000),
    ];
    for code in cases {
        let mut host = host(&code);
        assert_eq!(host.said(), ["2", "0"], "{code}");
        assert_eq!(host.plugin.outstanding_calls(), 0);
        assert!(host.effects().is_empty());
    }
}

#[test]
fn a_call_is_completed_once() {
    let mut host = host(&call("backend", &HEAD, 0));
    host.said();
    let answer = || CallOutcome::Answered {
        head: response(403, &[("x-a", "b")]),
        body: Bytes::from_static(b"denied"),
        trailers: headers(&[("t", "1")]),
    };
    host.plugin.http_call_response(&mut host.streams, CallId(4), answer()).unwrap();
    assert_eq!(host.said(), ["1", "4", "2", "6", "1", "0", "", "0", "403", "0", "denied"]);
    assert_eq!(host.plugin.outstanding_calls(), 0);
    host.plugin.http_call_response(&mut host.streams, CallId(4), answer()).unwrap();
    host.plugin.http_call_response(&mut host.streams, CallId(36), answer()).unwrap();
    assert!(host.said().is_empty());
}

#[test]
fn a_failed_call_is_a_completion_without_headers_also_after_the_exchange_has_ended() {
    let mut host = host(&call("backend", &HEAD, 0));
    host.plugin.finish(&mut host.streams, host.context).unwrap();
    assert_eq!(host.plugin.made_for(CallId(4)), None);
    host.streams.remove(host.key);
    host.said();
    host.plugin.http_call_response(&mut host.streams, CallId(4), CallOutcome::Failed).unwrap();
    let said = host.said();
    assert_eq!(said[..9], ["1", "4", "0", "0", "0", "11", "reset", "1", "reset"]);
}

#[test]
fn numbers_of_calls_do_not_repeat() {
    let twice = call("backend", &HEAD, 0) + &call("backend", &HEAD, 0);
    let mut host = host(&twice);
    assert_eq!(host.said(), ["0", "4", "0", "8"]);
    host.plugin.http_call_response(&mut host.streams, CallId(4), CallOutcome::Failed).unwrap();
    host.said();
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), ["0", "12", "0", "16"]);
}

#[test]
fn calls_that_nothing_will_come_of_fail_once() {
    let twice = call("backend", &HEAD, 0) + &call("backend", &HEAD, 0);
    let mut host = host(&twice);
    host.said();
    host.plugin.fail_calls(&mut host.streams).unwrap();
    let said = host.said();
    let failed: Vec<_> = said.chunks(11).map(|lines| lines[1].as_str()).collect();
    assert_eq!(failed, ["4", "8"]);
    assert_eq!(host.plugin.outstanding_calls(), 0);
    host.plugin.fail_calls(&mut host.streams).unwrap();
    assert!(host.said().is_empty());
}

#[test]
fn a_dead_instance_waits_for_no_call() {
    let mut host = host(&(call("backend", &HEAD, 0)));
    assert_eq!(host.plugin.outstanding_calls(), 1);
    host.run(Phase::RequestBody).unwrap_err();
    assert_eq!(host.plugin.outstanding_calls(), 0);
    let late = host.plugin.http_call_response(&mut host.streams, CallId(4), CallOutcome::Failed);
    assert!(late.is_err());
}

#[test]
fn foreign_functions_answer_what_no_sdk_panics_on() {
    let zeros = "(i32.const 0)".repeat(6);
    let host = host(&format!("(call $say32 (call $proxy_call_foreign_function {zeros}))"));
    let numbers: Vec<_> = host.said().into_iter().filter(|line| line.len() < 3).collect();
    assert_eq!(numbers, ["1"]);
}
