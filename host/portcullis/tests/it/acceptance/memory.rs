//! What was needed for a while only goes back to the system.

use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::clients::{Client, Protocol, block_on, post};
use super::documents;
use super::origin::Origin;
use super::program::Program;

const CONNECTIONS: usize = 400;
/// What each connection sends, and gets back.
const BODY: usize = 16 << 10;
/// Between two looks at the process.
const LOOK: Duration = Duration::from_millis(10);

fn start(origin: &Origin) -> Program {
    let text = documents::proxy()
        + &documents::backend("one", "HTTP", origin.address)
        + &documents::route("all", &documents::rule("/", &[], "one"));
    Program::start(&[("proxy.yaml", text.as_bytes())])
}

async fn echo(program: &Program) -> Client {
    let mut client = Client::connect(program.address("web"), Protocol::Http1).await.unwrap();
    let answer = client.send(post("/echo", vec![b'x'; BODY])).await.unwrap();
    assert_eq!(answer.body.len(), BODY);
    client
}

/// Waits until that holds.
#[track_caller]
fn wait(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}: not so");
        thread::sleep(LOOK);
    }
}

#[test]
fn what_connections_took_goes_back_to_the_system_once_they_are_gone() {
    let origin = Origin::start("origin");
    let program = start(&origin);
    block_on(async { drop(echo(&program).await) });
    let before = program.not_of_files();
    let most = block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(echo(&program).await);
        }
        program.not_of_files()
    });
    let left = before + (most - before) / 3;
    wait(&format!("from {before} to {most} KiB, then at most {left}"), || {
        program.not_of_files() <= left
    });
}

#[test]
fn pages_of_the_program_that_only_a_start_needs_are_given_back() {
    let origin = Origin::start("origin");
    let program = start(&origin);
    wait("less than half of the start's pages", || program.of_files() < program.peak() / 2);
    block_on(async { drop(echo(&program).await) });
}
