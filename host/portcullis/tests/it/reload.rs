//! Stories of change, on the whole program with real sockets: what clients see while documents, modules and certificates
//! change under it.

use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use portcullis::app::{App, Settings};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use crate::program::{
    House, PROXY, ROUTE, backend, connect, eventually, fetch, get, replace, upstream,
};

/// A module whose responses carry `x-version: {version}`, one letter.
fn stamp(version: char) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
          (import "env" "proxy_add_header_map_value"
            (func $add (param i32 i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "x-version{version}")
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 4096)
          (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            i32.const 2 i32.const 0 i32.const 9 i32.const 9 i32.const 1
            call $add drop
            i32.const 0))"#
    ))
    .unwrap()
}

const FILTER: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\n\
    metadata: {name: stamp}\nspec: {url: \"file://stamp.wasm\"}\n";

/// Ends the clients, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_request_fails_while_documents_and_modules_change_and_break() {
    let (one, two) = (upstream("one"), upstream("two"));
    let (ours, theirs) = (backend(one), backend(two));
    let house = House::new(&[
        ("proxy.yaml", PROXY.as_bytes()),
        ("app.yaml", ours.as_bytes()),
        ("route.yaml", ROUTE.as_bytes()),
        ("stamp.yaml", FILTER.as_bytes()),
        ("stamp.wasm", &stamp('a')),
    ]);
    let address = house.address();
    let (end, sent, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let ask = |connection: &mut BufReader<TcpStream>| {
        let good = get(connection, "/", &[]).is_some_and(|(head, body)| {
            let stamped = head.contains("x-version: a\r\n") || head.contains("x-version: b\r\n");
            head.starts_with("http/1.1 200") && stamped && (body == "one" || body == "two")
        });
        sent.fetch_add(1, Ordering::Relaxed);
        failed.fetch_add(u64::from(!good), Ordering::Relaxed);
    };
    thread::scope(|scope| {
        let _end = End(&end);
        scope.spawn(|| {
            let mut kept = connect(address);
            while !end.load(Ordering::Relaxed) {
                ask(&mut kept);
            }
        });
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                ask(&mut connect(address));
            }
        });
        for round in 0..3 {
            house.edit("app.yaml", if round % 2 == 0 { &theirs } else { &ours }.as_bytes());
            house.edit("stamp.wasm", &stamp(if round % 2 == 0 { 'b' } else { 'a' }));
            assert_eq!(house.spoil("stamp.wasm", b"no module"), "P0203");
            let text = ours.replace("protocol", "colour: red, protocol");
            replace(house.folder.path(), "app.yaml", text.as_bytes());
            eventually(|| house.app.board().problems().len() == 2);
        }
    });
    assert_eq!(failed.into_inner(), 0, "of {}", sent.load(Ordering::Relaxed));
    let (head, body) = fetch(address, "/");
    assert!(head.contains("x-version: b"), "{head}");
    assert_eq!(body, "two");
}

#[test]
fn status_tells_what_is_live_what_was_refused_and_why() {
    let app = backend(upstream("one"));
    let house = House::new(&[
        ("proxy.yaml", PROXY.as_bytes()),
        ("app.yaml", app.as_bytes()),
        ("route.yaml", ROUTE.as_bytes()),
    ]);
    let status = house.status();
    assert_eq!(status["schema"], "portcullis.status/1");
    assert_eq!(status["generation"], 1);
    assert_eq!(status["ready"], true);
    assert_eq!(status["proxy"]["generation"], 1);
    assert_eq!(status["sources"].as_array().unwrap().len(), 3);

    assert_eq!(house.spoil("app.yaml", app.replace("HTTP", "SPDY").as_bytes()), "P0111");
    let status = house.status();
    assert_eq!(status["generation"], 1);
    assert_eq!(status["refused_total"], 1);
    let source = &status["sources"][0];
    assert!(source["name"].as_str().unwrap().ends_with("/app.yaml"), "{source}");
    assert_ne!(source["version"], source["accepted_version"]);
    assert_eq!(source["problem"]["place"]["line"], 4);
    let (_, metrics) = fetch(house.app.admin().unwrap(), "/metrics");
    assert!(metrics.contains("\nportcullis_config_refused_total 1\n"), "{metrics}");
}

#[test]
fn a_swapped_certificate_is_what_new_connections_see() {
    let pair = |name: &str| {
        let pair = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (pair.cert.der().clone(), pair.cert.pem(), pair.signing_key.serialize_pem())
    };
    let (first, second) = (pair("localhost"), pair("localhost"));
    let tls = "tls: {certificateFile: both.pem, keyFile: both.pem}";
    let proxy = PROXY.replace("protocol: HTTP", &format!("protocol: HTTPS, {tls}"));
    let both = |(_, cert, key): &(CertificateDer<'static>, String, String)| format!("{cert}{key}");
    let house = House::new(&[
        ("proxy.yaml", proxy.as_bytes()),
        ("app.yaml", backend(upstream("one")).as_bytes()),
        ("route.yaml", ROUTE.as_bytes()),
        ("both.pem", both(&first).as_bytes()),
    ]);
    assert_eq!(presented(house.address(), &[&first.0, &second.0]), first.0);
    assert_eq!(house.spoil("both.pem", b"no certificate"), "P0601");
    assert_eq!(presented(house.address(), &[&first.0, &second.0]), first.0);
    house.edit("both.pem", both(&second).as_bytes());
    assert_eq!(presented(house.address(), &[&first.0, &second.0]), second.0);
}

/// The certificate that a server shows.
fn presented(address: SocketAddr, trusted: &[&CertificateDer<'static>]) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|cert| roots.add((*cert).clone()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    Stream::new(&mut client, &mut socket)
        .write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        .unwrap();
    client.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn a_port_in_use_is_a_problem_at_the_first_start() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let proxy = PROXY.replace(
        "{name: web, address: \"127.0.0.1:0\"",
        &format!("{{name: web, address: \"{address}\""),
    );
    replace(folder.path(), "proxy.yaml", proxy.as_bytes());
    let settings = Settings {
        paths: vec![folder.path().to_owned()],
        cache: Some(folder.path().join("cache")),
        ..Settings::default()
    };
    let problems = App::start(settings).map(|_| ()).unwrap_err();
    let codes: Vec<String> = problems.iter().map(|problem| problem.code.to_string()).collect();
    assert_eq!(codes, ["P0501"]);
    assert!(problems[0].title.contains(&address), "{}", problems[0].title);
}

#[test]
fn a_drained_program_finishes_what_is_in_flight_and_is_not_ready() {
    let house = House::new(&[
        ("proxy.yaml", PROXY.as_bytes()),
        ("app.yaml", backend(upstream("one")).as_bytes()),
        ("route.yaml", ROUTE.as_bytes()),
    ]);
    let (address, admin) = (house.address(), house.app.admin().unwrap());
    let (head, body) = fetch(address, "/");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "one");
    house.app.drain();
    let (head, body) = fetch(admin, "/healthz/ready");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert_eq!(body, "not ready: draining\n");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}
