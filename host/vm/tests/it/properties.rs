//! Properties: which there are, how they are encoded, and what guests store.

use std::sync::Arc;
use std::time::Duration;

use portcullis_vm::{Declaration, FilterState, Phase, StateError, TlsAttributes};

use crate::host::{Host, attributes, callback, check, headers, keep, response, spec, wat};

fn read(path: &str, prepare: impl FnOnce(&mut Host)) -> Option<Vec<u8>> {
    let mut host = Host::new(&keep(path));
    prepare(&mut host);
    host.run(Phase::RequestHeaders).unwrap();
    let value = host.stream().filter_state.property(b"kept").unwrap().value().to_vec();
    match host.said()[0].as_str() {
        "0" => Some(value),
        "1" => None,
        other => panic!("{path} answered {other}"),
    }
}

fn eight(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

#[test]
fn attributes_of_a_request_are_encoded_as_envoy_does() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("plugin_name", b"default/tester".to_vec()),
        ("plugin_root_id", b"tester".to_vec()),
        ("plugin_vm_id", b"vm-of-tester".to_vec()),
        ("listener_direction", eight(1)),
        ("route_name", b"route-a".to_vec()),
        ("xds\\00route_name", b"route-a".to_vec()),
        ("xds\\00node\\00id", b"shop/sidecar".to_vec()),
        ("xds\\00virtual_host_name", b"*.example.com".to_vec()),
        ("connection_id", eight(7)),
        ("connection\\00id", eight(7)),
        ("connection\\00mtls", vec![0]),
        ("source\\00address", b"203.0.113.9:55000".to_vec()),
        ("source\\00port", eight(55000)),
        ("destination\\00address", b"127.0.0.1:8080".to_vec()),
        ("destination\\00port", eight(8080)),
        ("request\\00path", b"/some/path?q=1".to_vec()),
        ("request\\00url_path", b"/some/path".to_vec()),
        ("request\\00query", b"q=1".to_vec()),
        ("request\\00host", b"example.com".to_vec()),
        ("request\\00method", b"GET".to_vec()),
        ("request\\00scheme", b"http".to_vec()),
        ("request\\00protocol", b"HTTP/1.1".to_vec()),
        ("request\\00headers\\00x-two", b"first,second".to_vec()),
        ("request\\00headers\\00:path", b"/some/path?q=1".to_vec()),
        ("request\\00size", eight(5)),
        ("request\\00time", eight(1_700_000_000_000_000_000)),
    ];
    for (path, expected) in cases {
        assert_eq!(read(path, |_| ()), Some(expected), "{path}");
    }
}

#[test]
fn what_is_not_known_is_not_found() {
    let paths = [
        "request\\00duration",
        "request\\00useragent",
        "response\\00code",
        "cluster_name",
        "upstream\\00address",
        "connection\\00tls_version",
        "nothing",
        "",
        "a\\00b\\00c\\00d\\00e\\00f\\00g\\00h\\00i",
        "\\ff",
    ];
    for path in paths {
        assert_eq!(read(path, |_| ()), None, "{path}");
    }
}

#[test]
fn attributes_of_a_finished_exchange_are_known() {
    let prepare = |host: &mut Host| {
        let stream = host.stream();
        stream.response = Some(response(503, &[("grpc-status", "3"), ("server", "b")]));
        stream.response_trailers = Some(Box::new(headers(&[("grpc-status", "14")])));
        stream.attributes.duration = Some(Duration::from_millis(15));
        stream.attributes.response_flags = 2;
        stream.attributes.code_details = Some("via_upstream".into());
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("response\\00code", eight(503)),
        ("response\\00grpc_status", eight(14)),
        ("response\\00flags", eight(2)),
        ("response\\00code_details", b"via_upstream".to_vec()),
        ("response\\00headers\\00server", b"b".to_vec()),
        ("request\\00duration", eight(15_000_000)),
    ];
    for (path, expected) in cases {
        assert_eq!(read(path, prepare), Some(expected), "{path}");
    }
}

#[test]
fn attributes_of_tls_come_from_the_connection() {
    let prepare = |host: &mut Host| {
        let mut known = attributes();
        let connection = Arc::make_mut(&mut known.connection);
        connection.tls = Some(Box::new(TlsAttributes {
            version: "TLSv1.3".to_owned(),
            mutual: true,
            peer_uris: vec!["spiffe://cluster.local/ns/a/sa/b".to_owned()],
            ..TlsAttributes::default()
        }));
        known.upstream = Some(known.connection.clone());
        host.stream().attributes = known;
    };
    let cases: [(&str, &[u8]); 5] = [
        ("connection\\00mtls", &[1]),
        ("connection\\00tls_version", b"TLSv1.3"),
        ("connection\\00uri_san_peer_certificate", b"spiffe://cluster.local/ns/a/sa/b"),
        ("upstream\\00tls_version", b"TLSv1.3"),
        ("upstream\\00address", b"192.0.2.1:4000"),
    ];
    for (path, expected) in cases {
        assert_eq!(read(path, prepare).as_deref(), Some(expected), "{path}");
    }
}

#[test]
fn all_request_headers_are_a_map_with_joined_values() {
    let map = read("request\\00headers", |_| ()).unwrap();
    assert_eq!(map[..4], 7u32.to_le_bytes());
    let text = String::from_utf8_lossy(&map).into_owned();
    assert!(text.contains("x-two\0first,second\0"), "{text:?}");
}

#[test]
fn values_of_a_name_are_joined_wherever_they_stand() {
    let again = |host: &mut Host| {
        let head = Arc::make_mut(&mut host.stream().request);
        head.headers.append("x-one", "2").unwrap();
    };
    let map = read("request\\00headers", again).unwrap();
    assert_eq!(map[..4], 7u32.to_le_bytes());
    let text = String::from_utf8_lossy(&map).into_owned();
    assert!(text.contains("x-one\x001,2\0x-two\0first,second\0"), "{text:?}");
    assert_eq!(read("request\\00headers\\00x-one", again).as_deref(), Some(&b"1,2"[..]));
}

#[test]
fn a_stored_property_is_read_back_under_its_path_and_as_filter_state() {
    let store = |path: &str| format!(r#"(call $say32 (call $proxy_set_property "{path}"S "v1"S))"#);
    let get = |path: &str| {
        format!(r#"(call $say32 (call $proxy_get_property "{path}"S OUT)) (call $say_out)"#)
    };
    let code = store("mark") + &get("mark") + &get("filter_state\\00wasm.mark");
    let mut host = check(&code, &["0", "0", "v1", "0", "v1"]);
    assert_eq!(host.stream().filter_state.get(b"wasm.mark").unwrap().value(), b"v1");
}

#[test]
fn a_value_with_a_plain_name_is_filter_state_and_no_property() {
    let get = |path: &str| format!(r#"(call $say32 (call $proxy_get_property "{path}"S OUT))"#);
    let code = get("filter_state\\00envoy.tcp_proxy.cluster") + "(call $say_out)";
    let mut host = Host::new(&callback(&(code + &get("envoy.tcp_proxy.cluster"))));
    let state = &mut host.stream().filter_state;
    state.set(b"envoy.tcp_proxy.cluster", b"far", Declaration::default()).unwrap();
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), ["0", "far", "1"]);
}

#[test]
fn a_read_only_property_keeps_its_first_value() {
    let set = callback(
        r#"(local $status i32)
        (local.set $status (call $proxy_set_property "verdict"S "deny"S))
        (call $say32 (local.get $status))"#,
    );
    // A guest of the Rust SDK would panic on anything but 0.
    for (text, expected) in [(wat(&set), "0"), (without_rust_marks(&wat(&set)), "2")] {
        let mut host = Host::start(&text, spec()).unwrap();
        let read_only = Declaration { read_only: true, ..Declaration::default() };
        let state = &mut host.stream().filter_state;
        state.set_property(b"verdict", b"allow", read_only).unwrap();
        host.run(Phase::RequestHeaders).unwrap();
        assert_eq!(host.said().last().unwrap(), expected);
        assert_eq!(host.stream().filter_state.property(b"verdict").unwrap().value(), b"allow");
    }
}

/// What only the stock Rust SDK imports, it does not import any more.
fn without_rust_marks(text: &str) -> String {
    let mark = r#"(import "env" "proxy_grpc_cancel""#;
    assert!(text.contains(mark));
    text.lines().filter(|line| !line.starts_with(mark)).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_property_stored_in_the_log_phase_is_there_for_the_access_log() {
    let mut host = Host::new(
        r#"(func (export "proxy_on_log") (param i32)
             (call $say32 (call $proxy_set_property "cost"S "7"S)))"#,
    );
    host.plugin.finish(&mut host.streams, host.context).unwrap();
    assert_eq!(host.said(), ["0"]);
    assert_eq!(host.stream().filter_state.property(b"cost").unwrap().value(), b"7");
}

#[test]
fn filter_state_is_bounded_and_a_replaced_value_gives_its_room_back() {
    let mut state = FilterState::default();
    let plain = Declaration::default();
    let most = vec![0; FilterState::MAX_BYTES - FilterState::OVERHEAD - 1];
    state.set(b"a", &most, plain).unwrap();
    assert_eq!(state.set(b"b", b"", plain), Err(StateError::Full));
    assert_eq!(state.get(b"a").unwrap().value(), most);
    state.set(b"a", b"short", plain).unwrap();
    state.set(b"b", b"", plain).unwrap();
    let names: Vec<&[u8]> = state.iter().map(|state| state.name()).collect();
    assert_eq!(names, [b"a", b"b"]);
}

#[test]
fn a_property_without_an_exchange_or_beyond_the_limit_is_ignored() {
    let host = Host::new(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $say32 (call $proxy_set_property "a"S "b"S)) (i32.const 1))"#,
    );
    assert_eq!(host.said().last().unwrap(), "0");
    assert_eq!(host.record.violations(), ["proxy_set_property"]);

    let mut host = Host::new(&callback(
        r#"(call $say32 (call $proxy_set_property "a"S (i32.const 0) (i32.const 65536)))"#,
    ));
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said().last().unwrap(), "0");
    assert!(host.stream().filter_state.is_empty());
}
