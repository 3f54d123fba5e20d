//! Choosing an upstream host, and putting bytes into a response's body.

use std::sync::Arc;

use portcullis_vm::{Effect, Phase, UpstreamHost};

use crate::host::{Host, bare, response, spec};

/// A guest with Higress's marker and functions.
fn higress(code: &str) -> Host {
    let text = bare(&format!(
        r#"(import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
           (import "env" "proxy_get_upstream_hosts" (func $hosts (param i32 i32) (result i32)))
           (import "env" "proxy_set_upstream_override_host" (func $choose (param i32 i32) (result i32)))
           (import "env" "proxy_inject_encoded_data_to_filter_chain"
             (func $inject (param i32 i32 i32) (result i32)))
           (memory (export "memory") 1)
           (func (export "proxy_abi_version_0_2_100"))
           (func (export "malloc") (param i32) (result i32) (i32.const 4096))
           (func $say (param i32 i32) (drop (call $proxy_log (i32.const 2) (local.get 0) (local.get 1))))
           (func $say32 (param $status i32)
             (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get $status)))
             (call $say (i32.const 8) (i32.const 1)))
           (func $run {code})
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $run) (i32.const 0))
           (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (call $run) (i32.const 0))
           (func (export "proxy_on_tick") (param i32) (call $run))"#
    ));
    let mut host = Host::start(&text, spec()).unwrap();
    let known = |address: &str, weight| UpstreamHost { address: address.into(), weight };
    let first = Arc::from([known("192.0.2.1:80", 1), known("a.example:8080", 3)]);
    host.stream().attributes.upstream_hosts = vec![first, Arc::from([known("192.0.2.9:81", 1)])];
    host
}

#[test]
fn hosts_are_listed_with_what_is_known_of_them() {
    let mut host = higress(
        r#"(call $say32 (call $hosts OUT)) (call $say (i32.load (i32.const 16)) (i32.load (i32.const 20)))"#,
    );
    host.run(Phase::RequestHeaders).unwrap();
    let said = host.said();
    assert_eq!(said[0], "0");
    let listed = "192.0.2.1:80\0{\"health_status\":\"Healthy\",\"weight\":1}\0\
                  a.example:8080\0{\"health_status\":\"Healthy\",\"weight\":3}\0\
                  192.0.2.9:81\0{\"health_status\":\"Healthy\",\"weight\":1}\0";
    assert!(said[1].ends_with(listed), "{:?}", said[1]);
}

#[test]
fn a_host_of_the_route_is_chosen_and_another_is_not() {
    let mut host = higress(r#"(call $say32 (call $choose "a.example:8080"S))"#);
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.stream().upstream_override.as_deref(), Some("a.example:8080"));

    let mut host = higress(r#"(call $say32 (call $choose "192.0.2.1:8"S))"#);
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.stream().upstream_override, None);
    assert_eq!(host.said().last().unwrap(), "0");
    assert_eq!(host.record.violations(), ["proxy_set_upstream_override_host"]);
}

#[test]
fn a_host_is_not_chosen_for_a_request_that_has_left_or_is_none() {
    let mut host =
        higress(r#"(call $say32 (call $choose "192.0.2.1:80"S)) (call $say32 (call $hosts OUT))"#);
    host.stream().request_sent = true;
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.stream().upstream_override, None);
    assert_eq!(host.record.violations(), ["proxy_set_upstream_override_host"]);
    host.plugin.tick(&mut host.streams).unwrap();
    let both = ["proxy_set_upstream_override_host", "proxy_get_upstream_hosts"];
    assert_eq!(host.record.violations(), both);
}

#[test]
fn injected_bytes_are_an_effect_once_there_is_a_response() {
    let code = r#"(call $say32 (call $inject "some bytes"S (i32.const 1)))"#;
    let mut host = higress(code);
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.record.violations(), ["proxy_inject_encoded_data_to_filter_chain"]);
    assert!(host.effects().is_empty());
    host.stream().response = Some(response(200, &[]));
    host.run(Phase::ResponseBody).unwrap();
    let effects = host.effects();
    assert!(
        matches!(&effects[..], [Effect::Inject(key, data, true)] if *key == host.key && data == "some bytes"),
        "{effects:?}"
    );
}

#[test]
fn a_bad_pointer_is_answered_by_its_status() {
    for call in [
        "(call $hosts (i32.const -1) (i32.const 20))",
        "(call $choose (i32.const -1) (i32.const 20))",
        "(call $inject (i32.const 65530) (i32.const 20) (i32.const 0))",
    ] {
        let mut host = higress(&format!("(call $say32 {call})"));
        host.stream().response = Some(response(200, &[]));
        host.run(Phase::RequestHeaders).unwrap();
        assert_eq!(host.said(), ["6"], "{call}");
    }
}
