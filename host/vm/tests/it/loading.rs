//! Which modules are taken, what is said of those that are not, and guests of the older ABI versions.

use portcullis_vm::{Abi, Digest, Effect, LoadError, Module, Phase, Plugin, TrapReason, inspect};

use crate::host::{Host, bare, callback, engine, module, spec, wat};

const MARKER: &str = r#"(func (export "proxy_abi_version_0_2_1"))"#;

fn load(body: &str) -> Result<Module, LoadError> {
    Module::load(engine(), &::wat::parse_str(format!("(module {body})")).unwrap(), None)
}

fn refused(body: &str) -> String {
    load(body).expect_err(body).to_string()
}

#[test]
fn a_module_with_all_imports_of_the_stock_crate_loads_and_says_what_it_is() {
    let module = module(&wat(""));
    let inspection = module.inspection();
    assert_eq!(inspection.abi, Some(Abi::V0_2_1));
    assert_eq!(inspection.imports.len(), 41);
    assert!(inspection.imports.iter().all(|import| import.supported));
    assert!(inspection.rust_sdk);
    assert_eq!(inspection.memory_bytes, 2 << 16);
    assert!(inspection.exports.iter().any(|export| export.name == "proxy_on_memory_allocate"));
    assert!(!module.from_cache());
}

#[test]
fn what_is_no_module_or_has_no_marker_is_refused() {
    let garbage = Module::load(engine(), b"\0asm\x01\0\0\0garbage", None).unwrap_err();
    assert!(matches!(garbage, LoadError::Invalid(_)), "{garbage}");
    let page = Module::load(engine(), b"<html>not found</html>", None).unwrap_err();
    assert_eq!(page.to_string(), "not a valid Wasm module: it does not begin as a Wasm file does");
    let invalid = ::wat::parse_str("(module (func (result i32)))").unwrap();
    assert!(matches!(Module::load(engine(), &invalid, None), Err(LoadError::Invalid(_))));
    let threads = ::wat::parse_str("(module (memory 1 1 shared))").unwrap();
    assert!(matches!(Module::load(engine(), &threads, None), Err(LoadError::Invalid(_))));
    let message = refused(r#"(func (export "proxy_abi_version_0_3_0"))"#);
    assert!(message.contains("proxy_abi_version_0_2_1"), "{message}");
}

#[test]
fn unknown_imports_are_all_named() {
    let body = format!(
        r#"(import "env" "proxy_fly" (func))
           (import "env" "proxy_swim" (func (param i64) (result i32)))
           (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
           (import "wasi_snapshot_preview1" "fd_fly" (func))
           (import "other" "memory" (memory 1)) {MARKER}"#
    );
    assert_eq!(
        refused(&body),
        "unknown import env.proxy_fly, wasi_snapshot_preview1.fd_fly, other.memory"
    );
    let inspection = inspect(&::wat::parse_str(format!("(module {body})")).unwrap()).unwrap();
    let supported: Vec<_> = inspection.imports.iter().map(|import| import.supported).collect();
    assert_eq!(supported, [false, false, true, false, false]);
}

#[test]
fn unknown_functions_with_a_status_answer_that_they_are_not_implemented() {
    let guest = |marks: &str| {
        let code = callback(
            r#"(call $say32 (call $swim (i64.const 1) (f32.const 2)))
               (call $say32 (call $dns (i32.const 0) (i32.const 0) (i32.const 0)))"#,
        );
        bare(&format!(
            r#"(import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
               (import "env" "proxy_swim" (func $swim (param i64 f32) (result i32)))
               (import "env" "envoy_resolve_dns" (func $dns (param i32 i32 i32) (result i32)))
               (memory (export "memory") 1) {MARKER} {marks}
               (func $say32 (param $status i32)
                 (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get $status)))
                 (drop (call $proxy_log (i32.const 2) (i32.const 8) (i32.const 1)))) {code}"#
        ))
    };
    for (marks, status) in [("", "<"), (r#"(@producers (language "Rust" ""))"#, ":")] {
        let mut host = Host::start(&guest(marks), spec()).unwrap();
        host.run(Phase::RequestHeaders).unwrap();
        let said = host.said();
        let ignored = |name: &str| format!("unknown_import ignored: env.{name} is not implemented");
        let expected = [&ignored("proxy_swim"), status, &ignored("envoy_resolve_dns"), status];
        assert_eq!(said, expected);
        assert_eq!(host.record.violations(), ["unknown_import", "unknown_import"]);
    }
    let bytes = ::wat::parse_str(guest("")).unwrap();
    let named = ["env.proxy_swim", "env.envoy_resolve_dns"];
    assert_eq!(inspect(&bytes).unwrap().stand_ins(), named);
}

#[test]
fn callbacks_that_are_never_called_have_their_types() {
    for (name, kind) in [
        ("proxy_on_foreign_function", "(param i32 i32 i32)"),
        ("proxy_validate_configuration", "(param i32 i32) (result i32) (i32.const 1)"),
        ("proxy_on_request_metadata", "(param i32 i32) (result i32) (i32.const 0)"),
        ("proxy_on_response_metadata", "(param i32 i32) (result i32) (i32.const 0)"),
        ("envoy_on_resolve_dns", "(param i32 i32 i32)"),
        ("envoy_on_stats_update", "(param i32 i32)"),
    ] {
        load(&format!(r#"(func (export "{name}") {kind}) {MARKER}"#)).unwrap();
        let wrong = format!(r#"(func (export "{name}") (param i64)) {MARKER}"#);
        assert!(refused(&wrong).contains("(i64)"), "{name}");
    }
}

#[test]
fn types_that_the_abi_does_not_allow_are_named() {
    let import = format!(r#"(import "env" "proxy_log" (func (param i32 i64))) {MARKER}"#);
    assert_eq!(
        refused(&import),
        "env.proxy_log has the type (i32, i64), expected (i32, i32, i32) -> i32"
    );
    let export = format!(
        r#"(func (export "proxy_on_request_headers") (param i32) (result i32) (i32.const 0)) {MARKER}"#
    );
    assert_eq!(
        refused(&export),
        "proxy_on_request_headers has the type (i32) -> i32, \
         expected (i32, i32, i32) -> i32 or (i32, i32) -> i32"
    );
}

#[test]
fn the_highest_marker_counts() {
    let cases = [
        (&["0_1_0"][..], Abi::V0_1_0),
        (&["0_2_0", "0_1_0"], Abi::V0_2_0),
        (&["0_2_1", "0_1_0", "0_2_0"], Abi::V0_2_1),
        (&["0_2_100"], Abi::V0_2_100),
    ];
    for (markers, expected) in cases {
        let body: String = markers
            .iter()
            .map(|marker| format!(r#"(func (export "proxy_abi_version_{marker}"))"#))
            .collect();
        assert_eq!(load(&body).unwrap().inspection().abi, Some(expected));
    }
}

#[test]
fn the_rust_sdk_is_known_by_its_marks() {
    let marked = |producers: &str| load(&format!("{MARKER} {producers}")).unwrap();
    assert!(marked(r#"(@producers (language "Rust" ""))"#).inspection().rust_sdk);
    assert!(marked(r#"(@producers (processed-by "rustc" "1.95.0"))"#).inspection().rust_sdk);
    assert!(!marked(r#"(@producers (language "Go" "1.24"))"#).inspection().rust_sdk);
    assert!(!marked("").inspection().rust_sdk);
}

#[test]
fn what_current_compilers_emit_is_taken() {
    let body = format!(
        r#"(table $t 2 funcref) (elem (i32.const 0) func $one)
           (func $one) (func $two (result i32 i32) (i32.const 1) (i32.const 2))
           (memory 1)
           (func (call_indirect $t (i32.const 0)) (drop (table.size $t)) (drop (i32.extend8_s (i32.const 1)))
             (memory.fill (i32.const 0) (i32.const 0) (i32.const 4))
             (drop (i32.trunc_sat_f64_s (f64.const 1)))
             (drop (i32x4.splat (i32.const 1))) (drop (ref.null func)) (call $two) drop drop) {MARKER}"#
    );
    load(&body).unwrap();
}

const OLD: &str = r#"
    (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_value"
      (func $get (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))
    (import "env" "pthread_equal" (func $equal (param i32 i32) (result i32)))
    (import "env" "emscripten_notify_memory_growth" (func (param i32)))
    (import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_1_0"))
    (func (export "malloc") (param i32) (result i32) (i32.const 512))
    (func $say (param i32 i32) (drop (call $proxy_log (i32.const 2) (local.get 0) (local.get 1))))
    (func $say_out (call $say (i32.load (i32.const 16)) (i32.load (i32.const 20))))"#;

#[test]
fn a_guest_of_the_first_version_runs() {
    let text = bare(&format!(
        r#"(import "env" "proxy_continue_request" (func $continue))
           (import "env" "proxy_continue_response" (func $continue_response (result i32)))
           (import "env" "proxy_clear_route_cache" (func $clear)) {OLD}
           (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
             (drop (call $configuration OUT)) (call $say_out) (i32.const 1))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $configuration OUT)) (call $say_out) (i32.const 1))
           (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
             (if (call $get (i32.const 0) "x-absent"S OUT) (then unreachable))
             (if (i32.load (i32.const 20)) (then unreachable))
             (if (i32.ne (local.get 1) (i32.const 8)) (then unreachable))
             (if (i32.eqz (call $equal (i32.const 3) (i32.const 3))) (then unreachable))
             (call $clear) (call $continue) (call $continue_response))"#
    ));
    let mut host = Host::start(&text, spec()).unwrap();
    assert_eq!(host.said(), ["vm settings", "{\"plugin\":true}"]);
    host.run(Phase::RequestHeaders).unwrap();
    let effects = host.effects();
    assert!(matches!(effects.as_slice(), [Effect::Continue(..), Effect::Continue(..)]));
}

#[test]
fn a_guest_of_the_first_version_may_have_three_parameters() {
    let text = bare(&format!("{OLD} {}", callback(r#"(call $say "three"S)"#)));
    let mut host = Host::start(&text, spec()).unwrap();
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), ["three"]);
}

#[test]
fn an_abort_of_assemblyscript_tells_its_text() {
    let text: String = "no rule".chars().map(|one| format!("{one}\\00")).collect();
    let body = bare(&format!(
        r#"(import "env" "abort" (func $abort (param i32 i32 i32 i32)))
           (memory (export "memory") 1) {MARKER}
           (data (i32.const 96) "\0e\00\00\00{text}")
           {}"#,
        callback("(call $abort (i32.const 100) (i32.const 0) (i32.const 7) (i32.const 3))")
    ));
    let mut host = Host::start(&body, spec()).unwrap();
    let trap = host.run(Phase::RequestHeaders).unwrap_err();
    assert_eq!(trap.reason, TrapReason::Panic);
    assert_eq!(trap.message, "proxy_on_request_headers: abort: no rule at :7:3");
}

#[test]
fn a_module_without_callbacks_or_memory_is_a_plugin_that_does_nothing() {
    let mut host = Host::start(&format!("(module {MARKER})"), spec()).unwrap();
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.plugin.memory_bytes(), 0);
    host.plugin.finish(&mut host.streams, host.context).unwrap();
    Plugin::delete(host.plugin, &mut host.streams);
}

#[test]
fn a_digest_is_read_as_it_is_written_and_nothing_else_is_one() {
    let digest = Digest::of(b"module");
    assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
    assert_eq!(Digest::from_hex(&digest.to_string().to_uppercase()), Some(digest));
    for wrong in ["", "abc", &"+1".repeat(32), &"é".repeat(32), &"0".repeat(65)] {
        assert_eq!(Digest::from_hex(wrong), None, "{wrong}");
    }
}
