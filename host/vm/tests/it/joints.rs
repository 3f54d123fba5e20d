//! The last callbacks of an exchange, which the guest makes at one entry, are as those that the host makes one by one. Each guest
//! here runs twice: as it is, and with an export whose name the host needs for a function of its own, so that it adds none.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_vm::{Cache, Engine, Limits, Module, Phase, Plugin, PluginSpec, Streams};

use crate::host::{Host, Record, Recorder, engine, module, spec, stream, wat};

const APART: &str = r#"(global (export "portcullis:step") i32 (i32.const 0))"#;

/// A guest with all callbacks from the first to the last, some of which do something.
fn guest(codes: &[(&str, &str)]) -> String {
    let code = |name: &str| {
        let code = codes.iter().find(|code| code.0 == name).map_or("", |code| code.1);
        // The root context has a life of its own.
        format!("(if (i32.ne (local.get 0) (i32.const 1)) (then {code}))")
    };
    format!(
        r#"(func (export "proxy_on_context_create") (param i32 i32) {})
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {} (i32.const 1))
           (func (export "proxy_on_log") (param i32) {})
           (func (export "proxy_on_done") (param i32) (result i32) {} (i32.const 1))
           (func (export "proxy_on_delete") (param i32) {})"#,
        code("context_create"),
        code("request_headers"),
        code("log"),
        code("done"),
        code("delete"),
    )
}

/// What comes of an exchange from its first callback to its last, in words.
fn story(text: &str, limits: Limits) -> String {
    let record = Arc::new(Record::default());
    let services = Box::new(Recorder(record.clone()));
    let spec = Arc::new(PluginSpec { limits, ..spec() });
    let mut plugin = Plugin::start(&module(text), spec, services).unwrap();
    let mut streams = Streams::default();
    let key = streams.insert(stream());
    let mut story = String::new();
    let opened = plugin.open(&mut streams, key, Phase::RequestHeaders, true);
    writeln!(story, "{opened:?}").unwrap();
    if let Ok((context, _)) = opened {
        writeln!(story, "{:?}", plugin.finish(&mut streams, context)).unwrap();
    }
    if let Some(trap) = plugin.trap() {
        writeln!(story, "{:?} {} {:?}", trap.reason, trap.message, trap.backtrace).unwrap();
    } else {
        writeln!(story, "contexts left: {}", plugin.contexts()).unwrap();
    }
    while let Some(effect) = plugin.next_effect() {
        writeln!(story, "{effect:?}").unwrap();
    }
    writeln!(story, "{:?}", streams.get(key).unwrap().request.headers).unwrap();
    writeln!(story, "{:?}\n{:?}", record.take_log(), record.take_violations()).unwrap();
    story
}

/// The story of a guest, which is the same either way.
fn same(codes: &[(&str, &str)], limits: &Limits) -> String {
    let guest = guest(codes);
    let joint = story(&wat(&guest), limits.clone());
    let apart = story(&wat(&(guest + APART)), limits.clone());
    assert_eq!(joint, apart, "{codes:?}");
    joint
}

const CALLBACKS: [&str; 5] = ["context_create", "request_headers", "log", "done", "delete"];

#[test]
fn callbacks_come_in_their_order_with_what_they_are_told() {
    let context = r#"(call $say "context"S) (call $say32 (local.get 0))"#;
    let headers = format!("{context} (call $say32 (local.get 1)) (call $say32 (local.get 2))");
    let told = CALLBACKS.map(|name| match name {
        "request_headers" => (name, headers.as_str()),
        _ => (name, context),
    });
    let story = same(&told, &spec().limits);
    assert_eq!(story.matches(r#"true, "context""#).count(), 5, "{story}");
    assert!(story.contains("Pause"), "{story}");
    assert!(story.contains("contexts left: 0"), "{story}");
}

#[test]
fn a_call_without_a_meaning_is_told_with_the_callback_that_made_it() {
    for name in CALLBACKS {
        let code = r#"(drop (call $proxy_done))"#;
        let story = same(&[(name, code)], &spec().limits);
        assert!(story.contains(&format!("phase: \"{name}\"")), "{name}: {story}");
    }
}

#[test]
fn headers_that_are_added_before_the_head_is_shown_are_counted() {
    let add = r#"(drop (call $proxy_add_header_map_value (i32.const 0) "x-early"S "yes"S))"#;
    let count = "(call $say32 (local.get 1))";
    let none = same(&[("request_headers", count)], &spec().limits);
    assert!(none.contains(r#""8""#), "{none}");
    let one = same(&[("context_create", add), ("request_headers", count)], &spec().limits);
    assert!(one.contains(r#""9""#), "{one}");
}

#[test]
fn a_callback_is_about_its_own_context_whatever_the_one_before_has_chosen() {
    let root = "(drop (call $proxy_set_effective_context (i32.const 1)))";
    let read = r#"(call $say32 (call $proxy_get_header_map_value (i32.const 0) "x-one"S OUT))"#;
    for pair in [["context_create", "request_headers"], ["log", "done"], ["done", "delete"]] {
        let story = same(&[(pair[0], root), (pair[1], read)], &spec().limits);
        assert!(story.contains(r#"true, "0""#), "{pair:?}: {story}");
    }
}

#[test]
fn a_trap_is_told_with_the_callback_and_the_functions_that_it_came_from() {
    for name in CALLBACKS {
        for code in ["unreachable", r#"(call $say "last words"S) unreachable"#] {
            let story = same(&[(name, code)], &spec().limits);
            assert!(story.contains(&format!("proxy_on_{name}: ")), "{name}: {story}");
            let backtrace = story.lines().find(|line| line.starts_with("Trap ")).unwrap();
            assert_eq!(backtrace.matches("function ").count(), 1, "{story}");
        }
    }
}

#[test]
fn a_trap_takes_back_what_its_callback_asked_for_and_nothing_else() {
    let call = r#"(drop (call $proxy_continue_stream (i32.const 0)))"#;
    let traps = format!("{call} unreachable");
    let story = same(&[("context_create", call), ("request_headers", &traps)], &spec().limits);
    assert_eq!(story.matches("Continue").count(), 1, "{story}");
}

#[test]
fn what_the_host_holds_for_a_callback_is_counted_for_each() {
    let keep = r#"(drop (call $proxy_set_shared_data "k"S (i32.const 0) (i32.const 65536) (i32.const 0)))"#;
    let twice = keep.repeat(2);
    let limits = Limits { memory: 180_000, ..spec().limits };
    let each = CALLBACKS.map(|name| (name, twice.as_str()));
    let story = same(&each, &limits);
    assert!(story.contains("contexts left: 0"), "{story}");
    for name in CALLBACKS {
        let story = same(&[(name, &keep.repeat(3))], &limits);
        assert!(story.contains(&format!("Memory proxy_on_{name}: ")), "{name}: {story}");
    }
}

#[test]
fn log_lines_of_one_callback_do_not_explain_the_trap_of_another() {
    let warn = r#"(drop (call $proxy_log (i32.const 4) "of the log"S))"#;
    let story = same(&[("log", warn), ("delete", "unreachable")], &spec().limits);
    assert!(story.contains("proxy_on_delete: "), "{story}");
    assert!(!story.contains("last log: of the log"), "{story}");
}

#[test]
fn a_callback_that_spends_its_budget_is_named() {
    let limits = Limits { callback: Duration::from_millis(20), ..spec().limits };
    for name in CALLBACKS {
        let text = wat(&guest(&[(name, "(loop $again (br $again))")]));
        let story = story(&text, limits.clone());
        assert!(story.contains(&format!("Cpu proxy_on_{name}: ")), "{name}: {story}");
    }
}

#[test]
fn memory_that_was_denied_is_told_with_the_callback_that_died_of_it() {
    for name in CALLBACKS {
        for code in ["", r#"(call $say "no room"S)"#] {
            let code = format!("(drop (memory.grow (i32.const 1000))) {code} unreachable");
            let story = same(&[(name, &code)], &spec().limits);
            assert!(story.contains(&format!("Memory proxy_on_{name}: memory limit")), "{story}");
        }
    }
}

#[test]
fn a_backtrace_names_as_many_functions_as_without_ours() {
    for depth in [29, 30, 31, 32] {
        let deeper = format!("(call $deeper (i32.const {depth}))");
        let function = r#"(func $deeper (param i32)
            (if (i32.eqz (local.get 0)) (then unreachable))
            (call $deeper (i32.sub (local.get 0) (i32.const 1))))"#;
        for name in ["log", "done", "delete"] {
            let text = format!("{function} {}", guest(&[(name, &deeper)]));
            let joint = story(&wat(&text), spec().limits);
            assert_eq!(joint, story(&wat(&(text + APART)), spec().limits));
            let backtrace = joint.lines().find(|line| line.starts_with("Trap ")).unwrap();
            assert_eq!(backtrace.matches("\"deeper\"").count(), 32.min(depth + 1), "{joint}");
        }
    }
}

#[test]
fn modules_of_every_shape_keep_what_they_have() {
    let marker = r#"(func (export "proxy_abi_version_0_2_0"))"#;
    let all = guest(&[]);
    let old = all.replace("(param i32 i32 i32) (result i32)", "(param i32 i32) (result i32)");
    let shapes = [
        // Without memory, globals, or anything else.
        format!("(module {marker} {all})"),
        // The first ABI knew no end of stream.
        format!(r#"(module (func (export "proxy_abi_version_0_1_0")) {old})"#),
        // Imports before everything, data, elements, a start function, and sections that nobody knows.
        format!(
            r#"(module (import "env" "proxy_done" (func (result i32)))
               (memory (export "memory") 1) (table 2 funcref) (global i64 (i64.const 7))
               (elem (i32.const 0) $start) (data (i32.const 8) "bytes") (func $start) (start $start)
               (@custom "first" (before first) "1") (@custom "last" (after last) "2") {marker} {all})"#
        ),
        // Only some of the callbacks.
        format!(r#"(module {marker} (func (export "proxy_on_log") (param i32)))"#),
        // Callbacks that are somebody else's functions.
        format!(
            r#"(module (import "env" "proxy_continue_stream" (func $other (param i32) (result i32)))
               {marker} (export "proxy_on_done" (func $other))
               (func (export "proxy_on_context_create") (param i32 i32))
               (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
               (func (export "proxy_on_log") (param i32)) (func (export "proxy_on_delete") (param i32)))"#
        ),
    ];
    for shape in shapes {
        let story = story(&shape, spec().limits);
        assert!(story.contains("contexts left: 0"), "{shape}: {story}");
        let has_all = ["log", "done", "delete"].iter().all(|name| {
            let export = format!(r#"(export "proxy_on_{name}""#);
            shape.contains(&export)
        });
        assert_eq!(has_function(&shape), has_all, "{shape}");
        let taken = format!("{} {APART})", shape.trim_end().strip_suffix(')').unwrap());
        assert!(!has_function(&taken), "{taken}");
    }
}

/// Whether the guest is compiled with a function of ours.
fn has_function(text: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("cache");
    let bytes = ::wat::parse_str(text).unwrap();
    Module::load(engine(), &bytes, Some(&Cache::open(&folder).unwrap())).unwrap();
    let files = std::fs::read_dir(&folder).unwrap();
    let contents = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    let compiled = contents.max_by_key(Vec::len).unwrap();
    let name = b"portcullis:finish";
    compiled.windows(name.len()).any(|window| window == name)
}

#[test]
fn a_module_with_no_room_for_more_exports_is_as_it_was() {
    // All exports together may weigh a million, a function as much as its type has parameters, about.
    let guest = guest(&[]);
    let wide = "i32 ".repeat(999);
    let exports: String =
        (0..998).map(|n| format!(r#"(export "wide-{n}" (func $wide))"#)).collect();
    for (fill, has_room) in [(972, true), (976, false)] {
        let fill = "i32 ".repeat(fill);
        let text = format!(
            r#"(module (func (export "proxy_abi_version_0_2_0")) (func $wide (param {wide}))
               (func (export "fill") (param {fill})) {exports} {guest})"#
        );
        assert_eq!(has_function(&text), has_room);
        assert!(story(&text, spec().limits).contains("contexts left: 0"));
    }
}

#[test]
fn a_guest_that_logs_each_exchange_goes_on_to_have_all_callbacks() {
    let said = CALLBACKS.map(|name| (name, format!(r#"(call $say "{name}"S)"#)));
    let codes: Vec<_> = said.iter().map(|(name, code)| (*name, code.as_str())).collect();
    let mut host = Host::new(&guest(&codes));
    host.plugin.finish(&mut host.streams, host.context).unwrap();
    host.said();
    for _ in 0..40 {
        let opened = host.plugin.open(&mut host.streams, host.key, Phase::RequestHeaders, true);
        host.plugin.finish(&mut host.streams, opened.unwrap().0).unwrap();
        assert_eq!(host.said(), CALLBACKS);
    }
    assert_eq!(host.plugin.contexts(), 0);
}

#[test]
fn a_function_that_only_bears_the_name_of_ours_is_not_called() {
    let said = CALLBACKS.map(|name| (name, format!(r#"(call $say "{name}"S)"#)));
    let codes: Vec<_> = said.iter().map(|(name, code)| (*name, code.as_str())).collect();
    let own = r#"(func (export "portcullis:finish") (param i32) unreachable)"#;
    for step in ["", APART] {
        let mut host = Host::new(&format!("{} {own} {step}", guest(&codes)));
        host.said();
        host.plugin.finish(&mut host.streams, host.context).unwrap();
        assert_eq!(host.said(), CALLBACKS[2..]);
    }
}

#[test]
fn ticks_at_any_moment_change_neither_what_is_called_nor_how_it_is_named() {
    let engine = Engine::new().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let ticking = std::thread::spawn({
        let (engine, stop) = (engine.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                engine.tick();
            }
        }
    });
    // Counts its callbacks, of which one in eight calls the host.
    let codes = CALLBACKS.map(|name| {
        let call = "(if (i32.eqz (i32.and (global.get $COUNT) (i32.const 7))) (then (drop (call $proxy_done))))";
        let count = "(global.set $COUNT (i32.add (global.get $COUNT) (i32.const 1)))";
        (name, format!("{count} {call}").replace("COUNT", name))
    });
    let codes: Vec<_> = codes.iter().map(|(name, code)| (*name, code.as_str())).collect();
    let counts = CALLBACKS.map(|name| format!("(global ${name} (mut i32) (i32.const 0))"));
    let says = CALLBACKS.map(|name| format!("(call $say32 (global.get ${name}))")).concat();
    let tell = format!(r#"(func (export "proxy_on_tick") (param i32) {says})"#);
    let text = wat(&format!("{} {} {tell}", counts.concat(), guest(&codes)));
    let bytes = ::wat::parse_str(text).unwrap();
    let module = Module::load(&engine, &bytes, None).unwrap();
    const EXCHANGES: usize = 96;
    for _ in 0..40 {
        let record = Arc::new(Record::default());
        let services = Box::new(Recorder(record.clone()));
        let mut plugin = Plugin::start(&module, Arc::new(spec()), services).unwrap();
        let mut streams = Streams::default();
        for _ in 0..EXCHANGES {
            let key = streams.insert(stream());
            let (context, _) = plugin.open(&mut streams, key, Phase::RequestHeaders, true).unwrap();
            plugin.finish(&mut streams, context).unwrap();
        }
        let told: Vec<_> = record.take_violations().into_iter().map(|told| told.phase).collect();
        assert_eq!(told, CALLBACKS.repeat(EXCHANGES / 8));
        record.take_log();
        plugin.tick(&mut streams).unwrap();
        let said: Vec<_> = record.take_log().into_iter().map(|(_, _, message)| message).collect();
        assert_eq!(said, [EXCHANGES.to_string().as_str(); CALLBACKS.len()]);
    }
    stop.store(true, Ordering::Relaxed);
    engine.rouse();
    ticking.join().unwrap();
}
