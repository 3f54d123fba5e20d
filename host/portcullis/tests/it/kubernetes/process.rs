//! `portcullis run --kubernetes` as a process: what it prints, how it ends.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::Cluster;
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
