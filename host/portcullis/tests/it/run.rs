//! `portcullis run` as a process: what it prints, how it ends.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{PROXY, ROUTE, backend, fetch, replace, upstream};

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["run", "-c"]).arg(folder).arg("--cache").arg(folder.join("cache"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn ended(folder: &Path) -> (i32, String) {
    let Output { status, stderr, .. } = command(folder).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

/// Reads lines until one contains `mark`.
fn line_with(lines: &mut impl Iterator<Item = std::io::Result<String>>, mark: &str) -> String {
    lines.map(Result::unwrap).find(|line| line.contains(mark)).unwrap()
}

#[test]
fn it_says_where_it_listens_reloads_when_asked_and_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    replace(folder.path(), "proxy.yaml", PROXY.as_bytes());
    replace(folder.path(), "app.yaml", backend(upstream("one")).as_bytes());
    replace(folder.path(), "route.yaml", ROUTE.as_bytes());
    let mut child = command(folder.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = line_with(&mut lines, "listening");
    let address = line.strip_prefix("listening http://").unwrap().strip_suffix(" (web)").unwrap();
    assert_eq!(line_with(&mut lines, "generation 1"), "generation 1, filters: none");
    assert_eq!(fetch(address.parse().unwrap(), "/").1, "one");

    signal(&child, Signal::HUP);
    assert!(line_with(&mut lines, "generation=2").contains("accepted"));
    replace(folder.path(), "app.yaml", b"kind: Backend: no");
    assert!(line_with(&mut lines, "refused").contains("P0101"));
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A folder with a filter that logs when it is configured.
fn talking() -> tempfile::TempDir {
    let guest = r#"(module
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "configured")
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 64))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $log (i32.const 2) (i32.const 16) (i32.const 10))) (i32.const 1)))"#;
    let folder = tempfile::tempdir().unwrap();
    replace(folder.path(), "proxy.yaml", PROXY.as_bytes());
    replace(folder.path(), "talker.wasm", &wat::parse_str(guest).unwrap());
    let filter = "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {name: talker}\n\
                  spec: {url: file://talker.wasm}\n";
    replace(folder.path(), "filter.yaml", filter.as_bytes());
    folder
}

#[test]
fn what_a_filter_logs_while_it_is_rehearsed_is_marked() {
    let folder = talking();
    let mut child = command(folder.path()).args(["--log-format", "json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let marked = line_with(&mut lines, "configured");
    assert!(marked.contains(r#""rehearsal":true"#), "{marked}");
    let in_service = line_with(&mut lines, "configured");
    assert!(!in_service.contains("rehearsal"), "{in_service}");
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn signals_that_come_while_it_starts_are_followed_once_it_serves() {
    let folder = talking();
    let mut child = command(folder.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    line_with(&mut lines, "configured");
    signal(&child, Signal::HUP);
    assert!(line_with(&mut lines, "generation=2").contains("accepted"));
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn nothing_good_to_start_with_is_65_with_everything_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    replace(folder.path(), "proxy.yaml", PROXY.replace("spec:", "spec:\n  colour: red").as_bytes());
    replace(folder.path(), "app.yaml", b"kind: Backend: no");
    let (code, said) = ended(folder.path());
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("error[P0102]") && said.contains("error[P0101]"), "{said}");
}

#[test]
fn a_port_in_use_is_78() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let proxy =
        PROXY.replace("web, address: \"127.0.0.1:0\"", &format!("web, address: \"{address}\""));
    replace(folder.path(), "proxy.yaml", proxy.as_bytes());
    let (code, said) = ended(folder.path());
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("error[P0501]") && said.contains(&address), "{said}");
}
