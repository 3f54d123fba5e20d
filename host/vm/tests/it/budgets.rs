//! What a guest may use, how it dies, and what is left afterwards.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use portcullis_vm::{Engine, Limits, Module, Phase, Plugin, PluginSpec, Trap, TrapReason};

use crate::host::{Host, Record, Recorder, callback, spec, wat};

fn dies(code: &str) -> (Host, Trap) {
    let mut host = Host::new(code);
    let trap = host.run(Phase::RequestHeaders).unwrap_err();
    (host, trap)
}

const LOOP: &str = "(loop $again (br $again))";

#[test]
fn a_guest_that_never_returns_is_stopped_for_its_cpu_time() {
    let limits = Limits { callback: Duration::from_millis(10), ..spec().limits };
    let mut host = Host::start(&wat(&callback(LOOP)), PluginSpec { limits, ..spec() }).unwrap();
    let trap = host.run(Phase::RequestHeaders).unwrap_err();
    assert_eq!(trap.reason, TrapReason::Cpu);
    assert!(trap.message.starts_with("proxy_on_request_headers: "), "{trap}");
}

#[test]
fn a_guest_on_a_throttled_thread_is_stopped_in_the_end() {
    let limits = Limits { callback: Duration::from_millis(2), ..spec().limits };
    let record = Record::throttled();
    let spec = PluginSpec { limits, ..spec() };
    let mut host = Host::start_with(record, &wat(&callback(LOOP)), spec).unwrap();
    let trap = host.run(Phase::RequestHeaders).unwrap_err();
    assert_eq!(trap.reason, TrapReason::Cpu);
    assert!(trap.message.contains("took longer than 40ms"), "{trap}");
}

#[test]
fn a_guest_that_never_starts_is_stopped_too() {
    let limits = Limits { start: Duration::from_millis(20), ..spec().limits };
    for export in ["_initialize", "_start"] {
        let text = wat(&format!(r#"(func (export "{export}") {LOOP})"#));
        let trap =
            Host::start(&text, PluginSpec { limits: limits.clone(), ..spec() }).err().unwrap();
        assert_eq!(trap.reason, TrapReason::Cpu, "{export}: {trap}");
    }
}

#[test]
fn a_callback_may_use_more_than_a_tick_and_each_has_its_own_budget() {
    let busy = "(local $left i32) (local.set $left (i32.const 4000000))
        (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))";
    let limits = Limits { callback: Duration::from_secs(5), ..spec().limits };
    let mut host = Host::start(&wat(&callback(busy)), PluginSpec { limits, ..spec() }).unwrap();
    for _ in 0..4 {
        host.run(Phase::RequestHeaders).unwrap();
    }
}

#[test]
fn memory_stops_growing_at_the_limit() {
    let (host, trap) = dies(&callback(
        "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
    ));
    assert_eq!(trap.reason, TrapReason::Memory, "{trap}");
    assert!(trap.message.contains("memory limit of 4194304 bytes"), "{trap}");
    assert_eq!(host.plugin.memory_bytes(), 4 << 20);
}

#[test]
fn a_guest_that_copes_with_denied_memory_lives_on() {
    let mut host = Host::new(&callback("(call $say32 (memory.grow (i32.const 1000)))"));
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), ["4294967295"]);
    assert_eq!(host.plugin.memory_bytes(), 2 << 16);
}

#[test]
fn tables_count_as_memory() {
    let (_, trap) = dies(&format!(
        "(table $t 0 funcref) {}",
        callback(
            "(loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 9000)) (i32.const -1)))) unreachable"
        )
    ));
    assert_eq!(trap.reason, TrapReason::Memory, "{trap}");
}

#[test]
fn a_module_that_needs_more_memory_than_allowed_does_not_start() {
    let limits = Limits { memory: 1 << 16, ..spec().limits };
    let trap = Host::start(&wat(""), PluginSpec { limits, ..spec() }).err().unwrap();
    assert_eq!(trap.reason, TrapReason::Memory, "{trap}");
}

#[test]
fn bodies_that_the_host_holds_count_as_memory() {
    let (_, trap) = dies(&callback(
        r#"(loop $again
            (drop (call $proxy_set_shared_data "k"S (i32.const 0) (i32.const 131072) (i32.const 0)))
            (br $again))"#,
    ));
    assert_eq!(trap.reason, TrapReason::Memory, "{trap}");
    assert!(trap.message.contains("proxy_set_shared_data"), "{trap}");
}

#[test]
fn a_guest_that_asks_without_end_runs_out_of_memory() {
    let (mut host, trap) = dies(&callback(
        "(loop $again (drop (call $proxy_continue_stream (i32.const 0))) (br $again))",
    ));
    assert_eq!(trap.reason, TrapReason::Memory, "{trap}");
    assert!(host.effects().is_empty());
}

#[test]
fn endless_recursion_is_a_trap() {
    let (_, trap) = dies(&format!("(func $deep (call $deep)) {}", callback("(call $deep)")));
    assert_eq!(trap.reason, TrapReason::Trap);
    assert!(trap.message.contains("call stack exhausted"), "{trap}");
}

#[test]
fn a_panic_is_told_with_its_text_and_the_names_of_its_functions() {
    let (_, trap) = dies(&format!(
        r#"(func $_ZN6filter5check17h0123456789abcdefE
             (drop (call $proxy_log (i32.const 5) "panicked at src/lib.rs:7: no rule"S)) unreachable)
           {}"#,
        callback("(call $_ZN6filter5check17h0123456789abcdefE)")
    ));
    assert_eq!(trap.reason, TrapReason::Panic);
    let expected = "proxy_on_request_headers: guest panicked: panicked at src/lib.rs:7: no rule";
    assert_eq!(trap.message, expected);
    assert_eq!(trap.backtrace[0], "filter::check");
    assert_eq!(trap.backtrace.len(), 2);
}

#[test]
fn an_unreachable_without_a_panic_is_a_trap_that_tells_the_last_log_line() {
    let (_, trap) = dies(&callback(
        r#"(drop (call $proxy_log (i32.const 3) "about to give up"S)) unreachable"#,
    ));
    assert_eq!(trap.reason, TrapReason::Trap);
    assert!(trap.message.ends_with("; last log: about to give up"), "{trap}");
}

#[test]
fn memory_out_of_bounds_is_a_trap() {
    let (_, trap) = dies(&callback("(drop (i32.load (i32.const -8)))"));
    assert_eq!(trap.reason, TrapReason::Trap);
    assert!(trap.message.contains("out of bounds memory access"), "{trap}");
}

#[test]
fn after_a_trap_the_plugin_is_dead_and_the_streams_are_whole() {
    let (mut host, trap) = dies(
        &(callback(
            r#"(drop (call $proxy_replace_header_map_value (i32.const 0) "x-one"S "changed"S))
               (drop (call $proxy_continue_stream (i32.const 0))) unreachable"#,
        ) + r#"(func (export "proxy_on_tick") (param i32) (call $say "tick"S))"#),
    );
    assert_eq!(host.streams.len(), 1);
    assert_eq!(host.header("x-one"), ["changed"]);
    assert!(host.effects().is_empty(), "effects of a callback that trapped are dropped");
    assert_eq!(host.plugin.trap().unwrap().message, trap.message);
    assert_eq!(host.plugin.tick(&mut host.streams).unwrap_err().message, trap.message);
    assert_eq!(host.run(Phase::RequestHeaders).unwrap_err().message, trap.message);
    assert_eq!(host.run(Phase::ResponseBody).unwrap_err().message, trap.message);
    assert!(host.plugin.create_context(&mut host.streams, host.key).is_err());
    assert_eq!(host.plugin.contexts(), 1);
    assert!(host.plugin.finish(&mut host.streams, host.context).is_err());
    assert_eq!(host.plugin.contexts(), 0);
    assert!(host.said().is_empty());
}

#[test]
fn nobody_ticks_while_no_guest_runs_and_one_that_loops_then_is_stopped_all_the_same() {
    let engine = Engine::new().unwrap();
    let (sender, ticks) = mpsc::channel();
    let ticking = engine.clone();
    thread::spawn(move || {
        loop {
            ticking.tick();
            if sender.send(()).is_err() {
                break;
            }
        }
    });
    let mut count = 0;
    while ticks.recv_timeout(Duration::from_millis(20)).is_ok() {
        count += 1;
        assert!(count < 1000, "it ticks although nothing runs");
    }
    let bytes = ::wat::parse_str(wat(&format!(r#"(func (export "_start") {LOOP})"#))).unwrap();
    let module = Module::load(&engine, &bytes, None).unwrap();
    let limits = Limits { start: Duration::from_millis(20), ..spec().limits };
    let services = Box::new(Recorder(Arc::new(Record::default())));
    let spec = Arc::new(PluginSpec { limits, ..spec() });
    let trap = Plugin::start(&module, spec, services).err().unwrap();
    assert_eq!(trap.reason, TrapReason::Cpu, "{trap}");
    drop(ticks);
    engine.rouse();
}
