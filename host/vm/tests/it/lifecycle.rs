//! Start, contexts, timers, queues and the end.

use std::sync::Arc;
use std::time::Duration;

use portcullis_vm::{
    Effect, Engine, LogLevel, Module, Phase, Plugin, QueueId, Streams, TrapReason, Violation,
};

use crate::host::{Host, spec, stream, wat};

/// A guest that says which callback it is in, and for which context.
fn chatty() -> String {
    let one = |name: &str, params: &str, rest: &str| {
        format!(
            r#"(func (export "proxy_on_{name}") (param {params}) {rest}
               (call $say "{name}"S) (call $say32 (local.get 0)) "#
        ) + if rest.is_empty() { ")" } else { "(i32.const 1))" }
    };
    one("context_create", "i32 i32", "")
        + &one("vm_start", "i32 i32", "(result i32)")
        + &one("configure", "i32 i32", "(result i32)")
        + &one("tick", "i32", "")
        + &one("log", "i32", "")
        + &one("done", "i32", "(result i32)")
        + &one("delete", "i32", "")
}

#[test]
fn callbacks_come_in_the_order_of_a_life() {
    let initialize = r#"(func (export "_initialize") (call $say "init"S))
        (func (export "main") (param i32 i32) (result i32) (call $say "main"S) (i32.const 0))"#;
    let mut host = Host::new(&(chatty() + initialize));
    let start = ["init", "main", "context_create", "1", "vm_start", "1", "configure", "1"];
    let said = host.said();
    assert_eq!(said[..8], start);
    assert_eq!(said[8..], ["context_create", "2"]);
    host.plugin.finish(&mut host.streams, host.context).unwrap();
    assert_eq!(host.said(), ["log", "2", "done", "2", "delete", "2"]);
    host.plugin.finish(&mut host.streams, host.context).unwrap();
    assert!(host.said().is_empty(), "a context ends once");
    host.plugin.tick(&mut host.streams).unwrap();
    assert!(host.plugin.done(&mut host.streams).unwrap());
    host.plugin.delete(&mut host.streams);
    assert_eq!(host.record.take_log().len(), 8);
}

#[test]
fn a_command_may_exit_with_success_while_it_starts() {
    let exit = |code: u32| {
        format!(
            r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "proxy_abi_version_0_2_0"))
            (func (export "_start") (call $exit (i32.const {code})) unreachable))"#
        )
    };
    assert!(Host::start(&exit(0), spec()).is_ok());
    let trap = Host::start(&exit(3), spec()).err().unwrap();
    assert_eq!(trap.reason, TrapReason::Trap);
    assert_eq!(trap.message, "start-up: proc_exit(3)");
}

#[test]
fn a_refusal_tells_what_the_guest_logged() {
    for callback in ["proxy_on_vm_start", "proxy_on_configure"] {
        let no = format!(
            r#"(func (export "{callback}") (param i32 i32) (result i32)
                (drop (call $proxy_log (i32.const 1) "reading"S))
                (drop (call $proxy_log (i32.const 4) "unknown field `rulez`"S)) (i32.const 0))"#
        );
        let trap = Host::start(&wat(&no), spec()).err().unwrap();
        assert_eq!(trap.reason, TrapReason::Refused);
        assert_eq!(trap.message, format!("{callback} answered no: unknown field `rulez`"));
    }
}

#[test]
fn only_levels_worth_recording_reach_the_log_with_their_exchange() {
    let log = "(drop (call $proxy_log (local.get 0) \"m\"S))";
    let say = |level: u32| log.replace("local.get 0", &format!("i32.const {level}"));
    let mut host = Host::new(&format!(
        r#"(func (export "proxy_on_tick") (param i32) {})
           (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             {} {} (drop (call $proxy_get_log_level (i32.const 16))) (call $say32 (i32.load (i32.const 16)))
             (call $say32 (call $proxy_log (i32.const 6) "m"S)) (i32.const 0))"#,
        say(5),
        say(0),
        say(3),
    ));
    host.plugin.tick(&mut host.streams).unwrap();
    host.run(Phase::RequestBody).unwrap();
    let line = |level, stream, text: &str| (level, stream, text.to_owned());
    assert_eq!(
        host.record.take_log(),
        [
            line(LogLevel::Critical, false, "m"),
            line(LogLevel::Warn, true, "m"),
            line(LogLevel::Info, true, "2"),
            line(LogLevel::Info, true, "2"),
        ]
    );
}

#[test]
fn a_timer_is_set_and_cancelled() {
    let mut host = Host::new(
        r#"(global $period (mut i32) (i32.const 1500))
           (func (export "proxy_on_tick") (param i32)
             (drop (call $proxy_set_tick_period_milliseconds (global.get $period)))
             (global.set $period (i32.const 0)))"#,
    );
    assert_eq!(host.plugin.tick_period(), None);
    host.plugin.tick(&mut host.streams).unwrap();
    let period = Duration::from_millis(1500);
    assert_eq!(host.plugin.tick_period(), Some(period));
    host.plugin.tick(&mut host.streams).unwrap();
    assert_eq!(host.plugin.tick_period(), None);
    let effects = host.effects();
    let [Effect::TickPeriod(first), Effect::TickPeriod(second)] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!((*first, *second), (period, Duration::ZERO));
}

#[test]
fn a_root_context_may_take_its_time_to_be_done() {
    let mut host = Host::new(
        r#"(func (export "proxy_on_done") (param i32) (result i32) (i32.const 0))
           (func (export "proxy_on_tick") (param i32) (call $say32 (call $proxy_done)))"#,
    );
    assert!(!host.plugin.done(&mut host.streams).unwrap());
    host.plugin.tick(&mut host.streams).unwrap();
    assert!(matches!(host.effects().as_slice(), [Effect::Done]));
    assert_eq!(host.said(), ["0"]);
}

#[test]
fn a_guest_reaches_any_exchange_it_knows_through_its_context() {
    let say = |context: u32| {
        format!(
            r#"(call $say32 (call $proxy_set_effective_context (i32.const {context})))
               (drop (call $proxy_get_header_map_value (i32.const 0) ":path"S OUT)) (call $say_out)"#
        )
    };
    let mut host = Host::new(&format!(
        r#"(func (export "proxy_on_tick") (param i32) {} {}
             (drop (call $proxy_continue_stream (i32.const 0)))
             (call $say32 (call $proxy_set_effective_context (i32.const 9)))
             (call $say32 (call $proxy_set_effective_context (i32.const 1)))
             (drop (call $proxy_continue_stream (i32.const 0))))"#,
        say(2),
        say(3)
    ));
    let mut second = stream();
    Arc::make_mut(&mut second.request).path = "/second".into();
    let second = host.streams.insert(second);
    host.plugin.create_context(&mut host.streams, second).unwrap();
    assert_eq!(host.plugin.contexts(), 2);
    host.plugin.tick(&mut host.streams).unwrap();
    let said = host.said();
    assert_eq!(said[..6], ["0", "/some/path?q=1", "0", "/second", "2", "0"]);
    let effects = host.effects();
    assert!(
        matches!(effects.as_slice(), [Effect::Continue(key, _)] if *key == second),
        "{effects:?}"
    );
}

#[test]
fn exchanges_that_last_keep_their_contexts_while_others_come_and_go() {
    let mut host = Host::new(
        r#"(func (export "proxy_on_log") (param i32)
            (drop (call $proxy_set_effective_context (i32.const 2)))
            (drop (call $proxy_get_header_map_value (i32.const 0) ":path"S OUT)) (call $say_out))
           (func (export "proxy_on_delete") (param i32) (call $say32 (local.get 0)))"#,
    );
    let first = host.context;
    let create = |host: &mut Host| {
        let stream = host.streams.insert(stream());
        host.plugin.create_context(&mut host.streams, stream).unwrap()
    };
    let end = |host: &mut Host, context| {
        host.plugin.finish(&mut host.streams, context).unwrap();
        host.said()
    };
    let lasting: Vec<_> = (0..100).map(|_| create(&mut host)).collect();
    let mut seen = Vec::new();
    for _ in 0..1000 {
        let context = create(&mut host);
        let said = end(&mut host, context);
        assert_eq!(said[0], "/some/path?q=1", "the first exchange is reached");
        seen.push(said[1].parse::<u32>().unwrap());
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "no id comes twice");
    let ids: Vec<String> =
        lasting.into_iter().map(|context| end(&mut host, context)[1].clone()).collect();
    assert!(ids.iter().map(|id| id.parse::<u32>().unwrap()).eq(3..103), "{ids:?}");
    assert_eq!(host.plugin.contexts(), 1);
    end(&mut host, first);
    assert_eq!(host.plugin.contexts(), 0);
}

#[test]
fn no_message_can_be_changed_once_an_exchange_ends() {
    let mut host = Host::new(
        r#"(func (export "proxy_on_log") (param i32)
            (drop (call $proxy_replace_header_map_value (i32.const 0) "x-one"S "late"S))
            (drop (call $proxy_continue_stream (i32.const 0)))
            (drop (call $proxy_get_header_map_value (i32.const 0) "x-one"S OUT)) (call $say_out))"#,
    );
    host.plugin.finish(&mut host.streams, host.context).unwrap();
    assert_eq!(host.said().last().unwrap(), "1");
    assert_eq!(host.header("x-one"), ["1"]);
    assert!(host.effects().is_empty());
    assert_eq!(host.record.violations().len(), 2);
}

#[test]
fn queues_are_told_of_by_their_number() {
    let mut host = Host::new(
        r#"(func (export "proxy_on_queue_ready") (param i32 i32)
             (call $say32 (local.get 0)) (call $say32 (local.get 1)))"#,
    );
    host.plugin.queue_ready(&mut host.streams, QueueId(5)).unwrap();
    assert_eq!(host.said(), ["1", "5"]);
}

#[test]
fn the_phases_that_a_module_has_are_known() {
    let host = Host::new(
        r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (i32.const 0))"#,
    );
    assert!(host.plugin.phases().contains(Phase::ResponseBody));
    assert!(!host.plugin.phases().contains(Phase::RequestHeaders));
    assert_eq!(host.plugin.spec().root_id, "tester");
}

#[test]
fn everything_can_be_moved_to_another_thread() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Engine>();
    is_send::<Module>();
    is_send::<Plugin>();
    is_send::<Streams>();
    is_sync::<Engine>();
    is_sync::<Module>();
}

#[test]
fn the_root_context_may_say_that_it_is_done_before_proxy_on_done_has_returned() {
    let mut host = Host::new(
        r#"(func (export "proxy_on_done") (param i32) (result i32)
             (drop (call $proxy_done)) (i32.const 0))"#,
    );
    assert!(!host.plugin.done(&mut host.streams).unwrap());
    assert!(matches!(host.effects().as_slice(), [Effect::Done]));
}

#[test]
fn a_start_section_may_log_and_what_it_asks_for_is_ignored() {
    let mut host = Host::new(
        r#"(func $begin (call $say "begun"S)
             (drop (call $proxy_set_tick_period_milliseconds (i32.const 5))))
           (start $begin)"#,
    );
    assert!(host.said().contains(&"begun".to_owned()));
    assert_eq!(host.record.violations(), ["proxy_set_tick_period_milliseconds"]);
    assert_eq!(host.plugin.tick_period(), None);
    assert!(host.effects().is_empty());
}

#[test]
fn a_violation_names_the_call_and_the_phase_it_was_made_in() {
    let late = r#"(drop (call $proxy_replace_header_map_value (i32.const 0) "x-one"S "late"S))"#;
    let mut host = Host::new(&format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) {late} (i32.const 1))
           (func (export "proxy_on_tick") (param i32) {late})
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {late} (i32.const 0))
           (func (export "proxy_on_log") (param i32) {late})"#,
    ));
    host.plugin.tick(&mut host.streams).unwrap();
    host.run(Phase::RequestHeaders).unwrap();
    host.plugin.finish(&mut host.streams, host.context).unwrap();
    let call = "proxy_replace_header_map_value";
    let expected = ["configure", "tick", "log"].map(|phase| Violation { call, phase });
    assert_eq!(host.record.take_violations(), expected);
}
