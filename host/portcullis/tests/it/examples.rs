//! Every folder of `examples/` runs: its filters compiled, its documents as they are but for the ports.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use portcullis_build::{Options, build};

use crate::program::{House, get_with, upstream};

/// Path, headers, and how the answer begins: status and body.
type Request<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The documents of an example, with its listeners on free ports and `apps` in place of its services.
fn documents(example: &str, apps: &[(&str, SocketAddr)]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(workspace().join("examples").join(example)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".yaml") {
            continue;
        }
        let mut text = fs::read_to_string(&path).unwrap();
        for taken in ["127.0.0.1:8080", "127.0.0.1:19000"] {
            text = text.replace(taken, "127.0.0.1:0");
        }
        for (address, app) in apps {
            text = text.replace(address, &app.to_string());
        }
        files.insert(name, text.into_bytes());
    }
    files
}

fn module(filter: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(workspace().join("filters").join(filter));
    options.output = Some(folder.path().join("filter.wasm"));
    fs::read(build(&options, &mut |_| {}).unwrap().path).unwrap()
}

/// Runs an example; each request (path and headers) and the start of the answer it gets, status and body.
fn check(
    example: &str,
    filter: Option<&str>,
    apps: &[(&str, SocketAddr)],
    requests: &[Request<'_>],
) -> House {
    let mut files = documents(example, apps);
    if let Some(filter) = filter {
        files.insert(format!("{filter}.wasm"), module(filter));
    }
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let house = House::new(&files);
    assert_eq!(house.app.board().problems(), []);
    for (path, headers, expected) in requests {
        let (head, body) = get_with(house.address(), path, headers);
        let answer = format!("{} {body}", &head["http/1.1 ".len()..][..3]);
        assert!(answer.starts_with(expected), "{path} {headers:?}: {answer}");
    }
    house
}

#[test]
fn quickstart_leads_to_the_service() {
    let apps = [("127.0.0.1:3000", upstream("hello"))];
    check("quickstart", None, &apps, &[("/", &[], "200 hello")]);
}

#[test]
fn canary_sends_who_asks_for_it_to_the_new_version_and_believes_no_forged_mark() {
    let apps = [("127.0.0.1:3001", upstream("one")), ("127.0.0.1:3002", upstream("two"))];
    let requests: [Request<'_>; 1] = [("/", &[("x-beta", "yes")], "200 two")];
    let house = check("canary", Some("canary"), &apps, &requests);
    let mut on_two = 0;
    for user in (0..100).map(|number| format!("user-{number}")) {
        let (_, honest) = get_with(house.address(), "/", &[("x-user", &user)]);
        let forged = [("x-user", user.as_str()), ("x-canary", "1")];
        assert_eq!(get_with(house.address(), "/", &forged).1, honest, "{user}");
        on_two += u32::from(honest == "two");
    }
    assert!((1..50).contains(&on_two), "{on_two} of 100 users");
}

#[test]
fn authz_lets_everybody_read_and_admins_administrate() {
    let apps = [("127.0.0.1:3000", upstream("hello"))];
    let requests: [Request<'_>; 3] = [
        ("/", &[], "200 hello"),
        ("/admin/", &[], "403 RBAC: access denied"),
        ("/admin/", &[("x-role", "admin")], "200 hello"),
    ];
    check("authz", Some("authz"), &apps, &requests);
}

#[test]
fn fault_leaves_requests_alone_that_do_not_ask_for_it() {
    let apps = [("127.0.0.1:3000", upstream("hello"))];
    let requests: Vec<Request<'_>> = vec![("/", &[], "200 hello"); 50];
    check("fault", Some("fault"), &apps, &requests);
}

#[test]
fn tcp_passes_connections_on_to_both_servers() {
    let apps = [("127.0.0.1:3001", greeting("old")), ("127.0.0.1:3002", greeting("new"))];
    let house = check("tcp", None, &apps, &[]);
    let heard: Vec<String> = (0..200).map(|_| hear(house.address())).collect();
    assert!(heard.iter().all(|text| text == "old" || text == "new"), "{heard:?}");
    assert!(heard.contains(&"new".to_owned()));
}

/// A server that says one thing to everybody.
fn greeting(text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            stream.unwrap().write_all(text.as_bytes()).unwrap();
        }
    });
    address
}

fn hear(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn every_example_is_tested_here() {
    let entries = fs::read_dir(workspace().join("examples")).unwrap();
    let mut found: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, ["authz", "canary", "fault", "quickstart", "tcp"]);
}
