//! What is injected into which requests, through the filter's only door.

use std::time::Duration;

use portcullis_sdk::test::Host;

use crate::Fault;

const ALWAYS: &str = r#"{"value": 100}"#;

#[test]
fn a_delayed_request_goes_on_when_its_time_has_come() {
    let host = Host::of::<Fault>(&format!(
        r#"{{"delay": {{"percentage": {ALWAYS}, "fixedDelay": "2s500ms"}}}}"#
    ));
    let end = host.get("/").send();
    assert_eq!((end.status(), end.delayed()), (200, Duration::from_millis(2500)));
    assert!(end.reached_upstream());
    assert_eq!(
        (host.metric("fault_delays_injected"), host.metric("fault_aborts_injected")),
        (1, 0)
    );
}

#[test]
fn delayed_requests_do_not_wait_for_each_other() {
    let host = Host::of::<Fault>(&format!(
        r#"{{"delay": {{"percentage": {ALWAYS}, "fixedDelay": "1s"}}}}"#
    ));
    let all: Vec<_> = (0..100).map(|_| host.get("/").start()).collect();
    host.advance(Duration::from_secs(1));
    assert!(all.into_iter().all(|one| one.end().delayed() == Duration::from_secs(1)));
}

#[test]
fn an_abort_answers_with_the_status_asked_for() {
    let check = |abort: &str| {
        let json = format!(r#"{{"abort": {{"percentage": {ALWAYS}, {abort}}}}}"#);
        let host = Host::of::<Fault>(&json);
        let end = host.get("/").send();
        assert!(!end.reached_upstream());
        assert_eq!(host.metric("fault_aborts_injected"), 1);
        (end.status(), end.grpc_status(), end.body())
    };
    let text = "fault filter abort".to_owned();
    assert_eq!(check(r#""httpStatus": 418"#), (418, None, text));
    assert_eq!(check(r#""grpcStatus": "UNAVAILABLE""#), (200, Some(14), String::new()));
    assert_eq!(check(r#""grpcStatus": "UNAUTHENTICATED""#), (200, Some(16), String::new()));
    assert_eq!(check(r#""grpcStatus": "OK""#), (200, Some(0), String::new()));
}

#[test]
fn delay_and_abort_are_drawn_independently() {
    let host = Host::of::<Fault>(
        r#"{"delay": {"percentage": {"value": 30}, "fixedDelay": "1ms"},
            "abort": {"percentage": {"value": 50}, "httpStatus": 503}}"#,
    );
    let mut both = 0;
    for _ in 0..2000 {
        let end = host.get("/").send();
        both += u32::from(!end.delayed().is_zero() && end.status() == 503);
    }
    assert!((520..680).contains(&host.metric("fault_delays_injected")));
    assert!((900..1100).contains(&host.metric("fault_aborts_injected")));
    assert!((230..370).contains(&both), "{both}");
}

#[test]
fn without_a_percentage_nothing_is_injected() {
    for percentage in ["", r#""percentage": {},"#, r#""percentage": {"value": 0},"#] {
        let host = Host::of::<Fault>(&format!(
            r#"{{"delay": {{{percentage} "fixedDelay": "1s"}},
                "abort": {{{percentage} "httpStatus": 500}}}}"#
        ));
        let end = host.get("/").send();
        assert_eq!((end.status(), end.delayed()), (200, Duration::ZERO), "{percentage}");
    }
    assert_eq!(Host::of::<Fault>("{}").get("/").send().status(), 200);
}

#[test]
fn only_matching_requests_are_touched() {
    let host = Host::of::<Fault>(&format!(
        r#"{{"match": [{{"headers": {{"end-user": {{"exact": "jason"}}, "x-debug": {{}}}}}},
                       {{"headers": {{"user-agent": {{"prefix": "probe/"}}}}}}],
            "abort": {{"percentage": {ALWAYS}, "httpStatus": 500}}}}"#
    ));
    let check = |headers: &[(&str, &str)], expected: u16| {
        let exchange = headers.iter().fold(host.get("/"), |e, (name, value)| e.header(name, value));
        assert_eq!(exchange.send().status(), expected, "{headers:?}");
    };
    check(&[], 200);
    check(&[("end-user", "jason")], 200);
    check(&[("end-user", "jason"), ("x-debug", "")], 500);
    check(&[("end-user", "ann"), ("end-user", "jason"), ("x-debug", "1")], 500);
    check(&[("end-user", "jasons"), ("x-debug", "1")], 200);
    check(&[("user-agent", "probe/2")], 500);
    check(&[("user-agent", "a probe/2")], 200);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let check = |json: &str, expected: &str| {
        let refusal = Host::refusal::<Fault>(json);
        assert!(refusal.starts_with(expected), "{refusal}");
    };
    check(r#"{"delay": {"fixedDelay": "soon"}}"#, "config.delay.fixedDelay: `soon` is not");
    check(r#"{"delay": {"fixedDelay": "0s"}}"#, "config.delay.fixedDelay: is below 1ms");
    check(r#"{"delay": {}}"#, "config.delay: missing field `fixedDelay`");
    check(
        r#"{"delay": {"fixedDelay": "1s", "percent": 5}}"#,
        "config.delay.percent: unknown field",
    );
    check(
        r#"{"abort": {"percentage": {"value": 101}, "httpStatus": 500}}"#,
        "config.abort.percentage.value: 101 is above 100",
    );
    check(r#"{"abort": {}}"#, "config.abort: needs httpStatus or grpcStatus");
    check(
        r#"{"abort": {"httpStatus": 500, "grpcStatus": "OK"}}"#,
        "config.abort: has both httpStatus and grpcStatus",
    );
    check(r#"{"abort": {"httpStatus": 99}}"#, "config.abort.httpStatus: 99 is not");
    check(r#"{"abort": {"grpcStatus": "14"}}"#, "config.abort.grpcStatus: unknown variant `14`");
    check(r#"{"match": []}"#, "config.match: is empty");
    check(r#"{"match": [{"uri": {}}]}"#, "config.match[0].uri: unknown field");
    check(
        r#"{"match": [{"headers": {"a": {"regex": "x"}}}]}"#,
        "config.match[0].headers.a.regex: unknown field",
    );
    check(
        r#"{"match": [{"headers": {"a": {"exact": "x", "prefix": "x"}}}]}"#,
        "config.match[0].headers.a: has both exact and prefix",
    );
}
