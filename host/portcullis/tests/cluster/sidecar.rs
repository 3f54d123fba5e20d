//! `portcullis run --kubernetes` as a process of its own, what it is asked, and the ConfigMaps that it reads.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::process::Process;
use crate::program::{connect, fetch, get};

/// Enough that no worker goes without.
const CONNECTIONS: usize = 16;
/// Where [`Sidecar::until_header`] looks.
pub const MARKED: &str = "/marked";

pub struct Sidecar {
    pub process: Process,
    /// Where it serves.
    pub web: SocketAddr,
    /// Where it is asked.
    pub admin: SocketAddr,
}

impl Sidecar {
    /// Starts it and waits until it serves. What it keeps on disk lies in `home`.
    pub fn start(kubeconfig: &Path, namespace: &str, root: &str, home: &Path) -> Sidecar {
        let mut process = Sidecar::spawn(kubeconfig, namespace, root, home);
        let found = process.until(|said| {
            let web = address(said, "listening http://", " (web)")
                .or_else(|| address(said, "listening https://", " (web)"))?;
            Some((web, address(said, "admin http://", "")?))
        });
        let (web, admin) = found.unwrap_or_else(|| panic!("it ended:\n{}", process.last_lines()));
        Sidecar { process, web, admin }
    }

    /// Starts it, whatever becomes of it.
    pub fn spawn(kubeconfig: &Path, namespace: &str, root: &str, home: &Path) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["run", "--kubernetes", "--namespace", namespace, "--root-namespace", root]);
        command.arg("--cache").arg(home.join("kept")).env("KUBECONFIG", kubeconfig);
        Process::start(&mut command, &home.join("portcullis.log"))
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&fetch(self.admin, "/status").1).unwrap()
    }

    /// Looks until the answer at [`MARKED`] has this header, or has it no more.
    #[track_caller]
    pub fn until_header(&mut self, header: &str, there: Presence) {
        let web = self.web;
        let wanted = format!("\r\n{header}\r\n");
        let seen = self.process.until(|_| {
            let (head, _) = fetch(web, MARKED);
            (head.contains(&wanted) == (there == Presence::There)).then_some(())
        });
        assert!(seen.is_some(), "it ended:\n{}", self.process.last_lines());
    }

    /// Looks until its status is as wanted.
    #[track_caller]
    pub fn until_status<T>(&mut self, found: impl Fn(&Value) -> Option<T>) -> T {
        let admin = self.admin;
        let seen = self.process.until(|_| {
            let status = serde_json::from_str(&fetch(admin, "/status").1).ok()?;
            found(&status)
        });
        seen.unwrap_or_else(|| panic!("it ended:\n{}", self.process.last_lines()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    There,
    Gone,
}

fn address(said: &str, before: &str, after: &str) -> Option<SocketAddr> {
    said.lines().find_map(|line| line.split_once(before)?.1.strip_suffix(after)?.parse().ok())
}

/// Connections to every worker, to see when the last of them answers anew.
pub struct Everyone {
    web: SocketAddr,
    connections: Vec<BufReader<TcpStream>>,
}

impl Everyone {
    pub fn of(web: SocketAddr) -> Everyone {
        Everyone { web, connections: (0..CONNECTIONS).map(|_| connect(web)).collect() }
    }

    /// When each has had an answer with this header.
    pub fn until(&mut self, header: &str) -> Instant {
        let wanted = format!("\r\n{header}\r\n");
        for connection in &mut self.connections {
            loop {
                match get(connection, "/", &[]) {
                    Some((head, _)) if head.contains(&wanted) => break,
                    Some(_) => thread::yield_now(),
                    None => *connection = connect(self.web),
                }
            }
        }
        Instant::now()
    }
}

/// What clients have had.
#[derive(Debug, Default)]
pub struct Tally {
    pub sent: AtomicU64,
    pub failed: AtomicU64,
}

/// Clients that ask while `story` goes on: one on a connection that it keeps, one with a new one for each request. An answer
/// that is not 200 with this body has failed.
pub fn under_load(web: SocketAddr, body: &str, story: impl FnOnce()) -> Tally {
    under_load_over(|| connect(web), body, story)
}

/// The same over connections of any kind.
pub fn under_load_over<S: Read + Write>(
    connect: impl Fn() -> BufReader<S> + Sync,
    body: &str,
    story: impl FnOnce(),
) -> Tally {
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (end, tally) = (AtomicBool::new(false), Tally::default());
    let ask = |connection: &mut BufReader<S>| {
        let answer = get(connection, "/", &[]);
        let good =
            answer.is_some_and(|(head, got)| head.starts_with("http/1.1 200") && got == body);
        tally.sent.fetch_add(1, Ordering::Relaxed);
        tally.failed.fetch_add(u64::from(!good), Ordering::Relaxed);
        good
    };
    thread::scope(|scope| {
        let _end = End(&end);
        scope.spawn(|| {
            let mut kept = connect();
            while !end.load(Ordering::Relaxed) {
                if !ask(&mut kept) {
                    kept = connect();
                }
            }
        });
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                ask(&mut connect());
            }
        });
        story();
    });
    tally
}

/// A ConfigMap that the proxy reads, as JSON.
pub fn config_map(namespace: &str, name: &str, files: &[(&str, &str)]) -> Value {
    let data: BTreeMap<_, _> = files.iter().copied().collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"portcullis.dev/config": "true"}},
        "data": data,
    })
}

/// A filter that puts `x-version: VERSION` on responses.
pub fn stamp(version: &str) -> Vec<u8> {
    let body = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (drop (call $add (i32.const 2) $name$ $version$)) (i32.const 0))"#;
    wat::parse_str(crate::frame::text(&[("name", "x-version"), ("version", version)], body))
        .unwrap()
}

/// Bytes that do not compress, others for each `seed`.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(next).collect()
}
