//! Connections without HTTP, from documents to sockets: routes and filters that change while connections live.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::frame;
use crate::program::{House, PATIENCE, PROXY, eventually};

/// Says its name, and then what it gets.
fn named(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                stream.write_all(name.as_bytes()).unwrap();
                let mut back = stream.try_clone().unwrap();
                drop(std::io::copy(&mut stream, &mut back));
                drop(back.shutdown(Shutdown::Write));
            });
        }
    });
    address
}

/// Puts its tag before each piece that the client sends.
fn tagging(tag: &str) -> Vec<u8> {
    wat::parse_str(frame::text(
        &[("t", tag)],
        r#"(func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
             (if (local.get 1) (then
               (drop (call $set_body (i32.const 2) (i32.const 0) (i32.const 0) $t$)))) (i32.const 0))"#,
    ))
    .unwrap()
}

fn backend(address: SocketAddr) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: Backend\nmetadata: {{name: app}}\n\
         spec: {{protocol: TCP, endpoints: [{{address: \"{address}\"}}]}}\n"
    )
}

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\n\
    metadata: {name: app}\nspec: {rules: [{backendRefs: [{name: app, port: 1}]}]}\n";
const FILTER: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\n\
    metadata: {name: tag}\nspec: {url: \"file://tag.wasm\", type: NETWORK}\n";

fn connect(house: &House, greeting: &str) -> TcpStream {
    let mut client = TcpStream::connect(house.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read(&mut client, greeting.len()), greeting);
    client
}

fn read(client: &mut TcpStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    client.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn say(client: &mut TcpStream, text: &str, answer: &str) {
    client.write_all(text.as_bytes()).unwrap();
    assert_eq!(read(client, answer.len()), answer);
}

#[test]
fn filters_and_routes_change_under_living_connections() {
    let proxy = PROXY.replace("protocol: HTTP}", "protocol: TCP}");
    let house = House::new(&[
        ("proxy.yaml", proxy.as_bytes()),
        ("app.yaml", backend(named("one")).as_bytes()),
        ("route.yaml", ROUTE.as_bytes()),
        ("tag.yaml", FILTER.as_bytes()),
        ("tag.wasm", &tagging("a")),
    ]);
    assert_eq!(house.app.board().problems(), []);
    assert_eq!(house.app.board().scheme("web"), "tcp");
    let mut old = connect(&house, "one");
    say(&mut old, "x", "ax");

    house.edit("tag.wasm", &tagging("b"));
    say(&mut connect(&house, "one"), "x", "bx");
    say(&mut old, "y", "ay");

    house.edit("app.yaml", backend(named("two")).as_bytes());
    say(&mut connect(&house, "two"), "x", "bx");
    say(&mut old, "z", "az");

    // What does not fit is told, and what is live serves on.
    let http = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web}\n\
        spec: {parentRefs: [{group: portcullis.dev, kind: Proxy, name: edge, sectionName: web}]}\n";
    assert_eq!(house.spoil("http.yaml", http.as_bytes()), "P0115");
    say(&mut connect(&house, "two"), "x", "bx");

    drop(old);
    eventually(|| house.status()["proxy"]["generations"].as_array().unwrap().len() == 1);
}
