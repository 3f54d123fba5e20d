//! `portcullis run --kubernetes` as a process: what it prints, how it ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::Cluster;
use super::modules::gzip;
use crate::program::fetch;

pub fn command(cluster: &Cluster) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["run", "--kubernetes", "--cache"]).arg(cluster.cache.path().join("modules"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(cluster: &Cluster) -> Child {
    let mut command = command(cluster);
    command.arg("--kubeconfig").arg(cluster.api.kubeconfig());
    command.args(["--admin", "127.0.0.1:0"]).spawn().unwrap()
}

/// The words after `mark` in the first line that has it.
pub fn after(lines: &mut impl Iterator<Item = std::io::Result<String>>, mark: &str) -> String {
    let line = lines.map(Result::unwrap).find(|line| line.contains(mark)).unwrap();
    line.split_once(mark).unwrap().1.to_owned()
}

#[test]
fn it_serves_what_the_cluster_holds_and_ends_when_told() {
    let cluster = Cluster::new();
    let mut child = run(&cluster);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = after(&mut lines, "listening http://");
    let address: SocketAddr = address.strip_suffix(" (web)").unwrap().parse().unwrap();
    after(&mut lines, "generation 1, filters: none");
    assert_eq!(fetch(address, "/").1, "one");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A container has some hundred MiB, and ends when it is full, again at each start.
#[test]
fn many_modules_that_are_little_until_they_are_opened_take_no_memory() {
    let cluster = Cluster::new();
    let mut child = run(&cluster);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    after(&mut lines, "generation 1, filters: none");
    let bomb = STANDARD.encode(gzip(&vec![0; 60 << 20]));
    let keys: Vec<String> = (0..8).map(|number| format!("f{number}.wasm")).collect();
    let filter = |key: &String| {
        format!(
            "---\napiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: {key}}}\n\
             spec: {{url: \"configmap:///bombs/{key}\"}}\n"
        )
    };
    let filters: String = keys.iter().map(filter).collect();
    let bombs: BTreeMap<String, &String> =
        keys.iter().map(|key| (format!("{key}.gz"), &bomb)).collect();
    let map = json!({"data": {"f.yaml": filters}, "binaryData": bombs});
    cluster.api.put_map("shop", "bombs", map);
    after(&mut lines, "refused: P0203");
    let account = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = account.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 320 << 10, "{peak} KiB");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_waits_for_something_to_run_and_ends_when_told() {
    let cluster = Cluster::empty();
    let mut child = run(&cluster);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let admin: SocketAddr = after(&mut lines, "admin http://").parse().unwrap();
    after(&mut lines, "not ready: no configuration yet");
    assert!(fetch(admin, "/healthz/ready").1.contains("P0114"));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_says_when_nobody_knows_which_cluster_is_meant() {
    let cluster = Cluster::empty();
    let mut command = command(&cluster);
    command.env_clear().env("HOME", cluster.cache.path());
    let output = command.output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{words}");
    assert!(words.contains("P0421") && words.contains("--kubeconfig"), "{words}");
}
