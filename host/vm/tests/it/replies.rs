//! Local replies, going on, and closing: the effects on an exchange.

use portcullis_vm::{Action, Direction, Effect, Phase, PluginSpec};

use crate::host::{Host, callback, headers, pairs, spec, wat};

fn reply(status: u32, grpc: i32) -> String {
    let fields =
        [("x-why", "policy"), ("content-length", "99"), (":status", "7"), ("bad name", "1")];
    format!(
        r#"(call $say32 (call $proxy_send_local_response (i32.const {status}) "not allowed here"S
            "go away"S "{}"S (i32.const {grpc})))"#,
        pairs(&fields)
    )
}

#[test]
fn a_reply_is_recorded_with_what_is_valid_of_it() {
    let mut host = Host::new(&callback(&reply(403, -1)));
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said().last().unwrap(), "0");
    let effects = host.effects();
    let [Effect::Reply(key, reply)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(*key, host.key);
    assert_eq!(reply.status, 403);
    assert_eq!(reply.details, "not_allowed_here");
    assert_eq!(reply.headers, headers(&[("x-why", "policy")]));
    assert_eq!(reply.body, "go away");
    assert_eq!(reply.grpc_status, None);
    assert_eq!(host.record.violations(), ["proxy_send_local_response"]);
}

#[test]
fn a_status_that_http_does_not_allow_becomes_500() {
    for (status, expected) in
        [(99, 500), (100, 100), (599, 599), (600, 500), (0, 500), (70000, 500)]
    {
        let mut host = Host::new(&callback(&reply(status, 16)));
        host.run(Phase::RequestHeaders).unwrap();
        let Some(Effect::Reply(_, reply)) = host.plugin.next_effect() else { panic!() };
        assert_eq!(reply.status, expected, "{status}");
        assert_eq!(reply.grpc_status, Some(16));
    }
}

#[test]
fn a_second_reply_is_dropped_and_logged() {
    let mut host = Host::new(&callback(&(reply(401, -1) + &reply(402, 17))));
    host.run(Phase::RequestHeaders).unwrap();
    host.run(Phase::RequestHeaders).unwrap();
    let effects = host.effects();
    assert_eq!(effects.len(), 1, "{effects:?}");
    let said = host.said();
    assert_eq!(said.iter().filter(|line| line.contains("answered already")).count(), 3);
}

#[test]
fn a_reply_after_the_response_was_sent_is_dropped() {
    let mut host = Host::new(&callback(&reply(401, -1)));
    host.stream().response_sent = true;
    host.run(Phase::RequestHeaders).unwrap();
    assert!(host.effects().is_empty());
}

#[test]
fn continue_and_close_are_recorded_for_the_exchange() {
    let mut host = Host::new(&callback(
        "(call $say32 (call $proxy_continue_stream (i32.const 0)))
         (call $say32 (call $proxy_continue_stream (i32.const 1)))
         (call $say32 (call $proxy_close_stream (i32.const 0)))
         (call $say32 (call $proxy_continue_stream (i32.const 9)))",
    ));
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), ["0", "0", "0", "2"]);
    let effects = host.effects();
    let [Effect::Continue(_, first), Effect::Continue(_, second), Effect::Close(key)] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!((*first, *second, *key), (Direction::Request, Direction::Response, host.key));
}

#[test]
fn tcp_streams_and_missing_exchanges_are_ignored_with_ok() {
    let mut host = Host::new(
        r#"(func (export "proxy_on_tick") (param i32)
            (call $say32 (call $proxy_continue_stream (i32.const 0)))
            (call $say32 (call $proxy_continue_stream (i32.const 3)))
            (call $say32 (call $proxy_close_stream (i32.const 2)))
            (call $say32 (call $proxy_done)))"#,
    );
    host.plugin.tick(&mut host.streams).unwrap();
    let numbers: Vec<_> = host.said().into_iter().filter(|line| line.len() == 1).collect();
    assert_eq!(numbers, ["0", "0", "0", "0"]);
    assert!(host.effects().is_empty());
    assert_eq!(host.record.violations().len(), 4);
}

#[test]
fn answers_mean_what_their_phase_says() {
    use Action::{Continue, Drop, EndStream, Pause, PauseHeaders, PauseWatermark};
    let cases = [
        (Phase::RequestHeaders, [Continue, PauseWatermark, EndStream, Pause, PauseWatermark]),
        (Phase::ResponseHeaders, [Continue, PauseWatermark, EndStream, Pause, PauseWatermark]),
        (Phase::RequestBody, [Continue, Pause, PauseWatermark, Drop, Drop]),
        (Phase::ResponseBody, [Continue, Pause, PauseWatermark, Drop, Drop]),
        (Phase::RequestTrailers, [Continue, Pause, Pause, Pause, Pause]),
    ];
    for (answer, at) in [0, 1, 2, 3, 4].into_iter().zip(0..) {
        let one = |name: &str, params: &str| {
            format!(
                r#"(func (export "proxy_on_{name}") (param {params}) (result i32) (i32.const {answer}))"#
            )
        };
        let guest = one("request_headers", "i32 i32 i32")
            + &one("response_headers", "i32 i32 i32")
            + &one("request_body", "i32 i32 i32")
            + &one("response_body", "i32 i32 i32")
            + &one("request_trailers", "i32 i32");
        let mut host = Host::new(&guest);
        for (phase, actions) in &cases {
            assert_eq!(host.run(*phase).unwrap(), actions[at], "{phase:?} {answer}");
        }
        let spec = PluginSpec { allow_on_headers_stop_iteration: true, ..spec() };
        let mut host = Host::start(&wat(&guest), spec).unwrap();
        let action = host.run(Phase::RequestHeaders).unwrap();
        assert_eq!(action, if answer == 1 { PauseHeaders } else { cases[0].1[at] });
    }
}
