//! docs/attributes.md, row by row: each attribute is there when the page says so, in the form that it says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis_vm::{ConnectionAttributes, Declaration, Phase, TlsAttributes};

use crate::host::{Host, headers, keep, response};

const PAGE: &str = include_str!("../../../../docs/attributes.md");

struct Row {
    attribute: &'static str,
    kind: &'static str,
    from: &'static str,
}

fn rows() -> Vec<Row> {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim);
    let table =
        PAGE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| attribute"));
    table
        .map(|line| {
            let mut cells = cells(line);
            let mut next = || cells.next().unwrap();
            Row { attribute: next(), kind: next(), from: next() }
        })
        .collect()
}

/// Dots separate segments, but for names that have a dot themselves.
fn path(attribute: &str) -> String {
    match attribute.split_once(".wasm.") {
        Some((root, name)) => format!("{root}\\00wasm.{name}"),
        None => attribute.replace('.', "\\00"),
    }
}

fn tls() -> TlsAttributes {
    TlsAttributes {
        version: "TLSv1.3".to_owned(),
        server_name: Some("reviews".to_owned()),
        mutual: true,
        peer_subject: Some("CN=peer".to_owned()),
        peer_dns_names: vec!["peer.test".to_owned()],
        peer_uris: vec!["spiffe://peer".to_owned()],
        peer_digest: Some("00ff".to_owned()),
        peer_certificate: Some(Bytes::from_static(b"certificate")),
        local_subject: Some("CN=us".to_owned()),
        local_dns_names: vec!["us.test".to_owned()],
        local_uris: vec!["spiffe://us".to_owned()],
    }
}

/// How far an exchange has come.
const STAGES: [&str; 6] = ["request", "tls", "chosen", "upstream", "response", "end"];

/// A host whose exchange has come to `stage`, everything before included.
fn at(stage: usize, attribute: &str) -> Host {
    let mut host = Host::new(&keep(&path(attribute)));
    let stream = host.stream();
    for (name, value) in [("x-request-id", "1"), ("referer", "r"), ("user-agent", "u")] {
        Arc::make_mut(&mut stream.request).headers.append(name, value).unwrap();
    }
    stream.filter_state.set_property(b"tier", b"gold", Declaration::default()).unwrap();
    let known = &mut stream.attributes;
    if stage >= 1 {
        Arc::make_mut(&mut known.connection).tls = Some(Box::new(tls()));
    }
    if stage >= 2 {
        known.cluster_name = Some("shop/reviews".into());
        known.endpoints = Some(2);
        known.attempts = 1;
    }
    if stage >= 3 {
        let tls = Some(Box::new(tls()));
        let (peer, local) = ("192.0.2.9:80".parse().unwrap(), "192.0.2.1:9".parse().unwrap());
        known.upstream = Some(Arc::new(ConnectionAttributes { id: 9, peer, local, tls }));
        known.pool_ready = Some(Duration::from_millis(1));
    }
    if stage >= 5 {
        known.code_details = Some("via_upstream".into());
        known.duration = Some(Duration::from_millis(2));
        known.backend_latency = Some(Duration::from_millis(1));
        stream.request_trailers = Some(Box::new(headers(&[("t", "1")])));
        stream.response_trailers = Some(Box::new(headers(&[("t", "1")])));
    }
    if stage >= 4 {
        stream.response = Some(response(200, &[("server", "s")]));
    }
    host
}

fn read(host: &mut Host) -> Option<Vec<u8>> {
    host.run(Phase::RequestHeaders).unwrap();
    match host.said()[0].as_str() {
        "0" => Some(host.stream().filter_state.property(b"kept").unwrap().value().to_vec()),
        "1" => None,
        other => panic!("answered {other}"),
    }
}

fn has_form(kind: &str, value: &[u8]) -> bool {
    match kind {
        "int" | "uint" | "timestamp" | "duration" => value.len() == 8,
        "bool" => value.len() == 1,
        "map" => value.len() >= 4,
        "string" | "bytes" => std::str::from_utf8(value).is_ok(),
        "message" => true,
        other => panic!("what is {other}?"),
    }
}

#[test]
fn every_attribute_of_the_page_is_there_when_it_says() {
    let rows = rows();
    assert!(rows.len() > 90, "{}", rows.len());
    for Row { attribute, kind, from } in rows {
        let first = match from {
            "root" => 0,
            "never" => STAGES.len(),
            from => STAGES.iter().position(|stage| *stage == from).unwrap(),
        };
        for (stage, name) in STAGES.iter().enumerate() {
            let value = read(&mut at(stage, attribute));
            assert_eq!(value.is_some(), stage >= first, "{attribute} at {name}");
            if let Some(value) = value {
                assert!(has_form(kind, &value), "{attribute} at {name}: {value:?}");
            }
        }
    }
}

#[test]
fn attributes_that_the_page_calls_root_need_no_exchange() {
    for Row { attribute, from, .. } in rows() {
        let guest = format!(
            r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
                 (call $say32 (call $proxy_get_property "{}"S OUT)) (i32.const 1))"#,
            path(attribute)
        );
        let expected = if from == "root" { "0" } else { "1" };
        assert_eq!(Host::new(&guest).said(), [expected], "{attribute}");
    }
}

#[test]
fn certificates_metadata_and_empty_maps_have_envoys_bytes() {
    let check = |attribute: &str, expected: &[u8]| {
        let value = read(&mut at(5, attribute)).unwrap();
        assert_eq!(value, expected, "{attribute}: {}", String::from_utf8_lossy(&value));
    };
    check(
        "connection.peer_certificate",
        b"-----BEGIN%20CERTIFICATE-----%0AY2VydGlmaWNhdGU%3D%0A-----END%20CERTIFICATE-----%0A",
    );
    check("metadata", b"");
    check("metadata.filter_metadata", &[0; 4]);
    check("xds.route_metadata", b"");
    check("response.grpc_status", &2_u64.to_le_bytes());
    check("node.id", b"shop/sidecar");
    check("node.cluster", b"reviews");
    check("node.metadata.LABELS", b"\x01\0\0\0\x03\0\0\0\x07\0\0\0app\0reviews\0");
    let node = read(&mut at(0, "node")).unwrap();
    let begin = b"\x0a\x0cshop/sidecar\x12\x07reviews\x1a";
    assert_eq!(node[..begin.len()], *begin);
    // A `Value` with a `Struct`, in an entry of a `Struct`.
    let labels = b"\x0a\x06LABELS\x12\x14\x2a\x12\x0a\x10\x0a\x03app\x12\x09\x1a\x07reviews";
    assert!(node.windows(labels.len()).any(|part| part == labels), "{node:?}");
}

#[test]
fn an_object_as_a_whole_cannot_be_serialized() {
    for object in ["request", "response", "connection", "upstream", "source", "xds"] {
        let mut host = at(5, object);
        host.run(Phase::RequestHeaders).unwrap();
        assert_eq!(host.said()[0], "3", "{object}");
    }
}
