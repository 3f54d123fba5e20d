//! Long bodies through filters: what is held is bounded exactly, and what is not held takes no memory.

use std::time::{Duration, Instant};

use http::Request;
use http_body_util::BodyExt as _;
use tokio::time::sleep;

use super::PATIENCE;
use super::clients::{Answer, Client, Protocol, block_on, get, post};
use super::origin::{Filling, Origin, drink};
use super::program::Program;
use super::{documents, guests};

const HELD: usize = 1 << 20;
const STREAMED: u64 = 100 << 20;
/// How much more than before may be resident while a body streams, in KiB.
const ROOM: u64 = 4 << 10;
/// The proxy takes no more from the origin when nothing has moved for so long.
const STILL: Duration = Duration::from_millis(200);
const PROTOCOLS: [(Protocol, &str); 2] = [(Protocol::Http1, "/by-1"), (Protocol::Http2, "/by-2")];

/// Both protocols to the origin, by prefix; one filter that rewrites bodies below `…/held`, and one that passes them.
fn start(origin: &Origin) -> Program {
    let rule = |filter: &str, prefix: &str, backend: &str| {
        documents::route(
            &format!("{filter}-{backend}"),
            &documents::rule(prefix, &[filter], backend),
        )
    };
    let text = documents::backend("one", "HTTP", origin.address)
        + &documents::backend("two", "H2C", origin.address)
        + &documents::filter("rewriting", "url: file://rewriting.wasm, attach: ROUTE")
        + &documents::filter("passing", "url: file://passing.wasm, attach: ROUTE")
        + &rule("rewriting", "/by-1/by-rewriting", "one")
        + &rule("rewriting", "/by-2/by-rewriting", "two")
        + &rule("passing", "/by-1", "one")
        + &rule("passing", "/by-2", "two");
    Program::start(&[
        ("proxy.yaml", documents::proxy().as_bytes()),
        ("app.yaml", text.as_bytes()),
        ("rewriting.wasm", &guests::rewriting()),
        ("passing.wasm", &guests::passing()),
    ])
}

fn ask(program: &Program, protocol: Protocol, request: Request<super::clients::Sent>) -> Answer {
    block_on(async {
        let mut client = Client::connect(program.address("web"), protocol).await.unwrap();
        client.send(request).await.unwrap()
    })
}

#[test]
fn a_body_of_one_mebibyte_is_rewritten_both_ways_and_one_byte_more_is_refused() {
    let origin = Origin::start("origin");
    let program = start(&origin);
    for (protocol, prefix) in PROTOCOLS {
        let path = |rest: &str| format!("{prefix}/by-rewriting/{rest}");
        let sent: Vec<u8> = (0..HELD).map(|index| (index % 251) as u8).collect();
        let mut expected = sent.clone();
        expected[0] = b'Q';
        expected[HELD - 1] = b'R';
        let answer = ask(&program, protocol, post(&path("echo"), sent.clone()));
        assert_eq!(answer.status, 200, "{protocol:?}");
        assert!(answer.body == expected, "{protocol:?}: another body");

        let longer = [sent, vec![b'x']].concat();
        let answer = ask(&program, protocol, post(&path("echo"), longer));
        assert_eq!(answer.status, 413, "{protocol:?}");
        let answer = ask(&program, protocol, get(&path(&format!("bytes/{}", HELD + 1))));
        assert_eq!(answer.status, 500, "{protocol:?}");
        let answer = ask(&program, protocol, get(&path(&format!("bytes/{HELD}"))));
        assert_eq!(answer.status, 200, "{protocol:?}");
        assert_eq!(answer.body.len(), HELD);
    }
}

/// Bytes that have gone each way before anything is measured.
const WARM: usize = 8 << 20;

/// Reads nothing until the proxy has stopped reading, then slowly everything.
async fn download(program: &Program, origin: &Origin, protocol: Protocol, path: &str) {
    let mut client = Client::connect(program.address("web"), protocol).await.unwrap();
    let before = origin.moved();
    let response = client.open(get(path)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-passed"], "yes");
    let (mut moved, started) = (before, Instant::now());
    while moved == before || origin.moved() != moved {
        assert!(started.elapsed() < PATIENCE, "{protocol:?}: no back-pressure");
        moved = origin.moved();
        sleep(STILL).await;
    }
    assert!(
        moved - before < STREAMED / 2,
        "{protocol:?}: {} bytes without a reader",
        moved - before
    );
    assert_eq!(drink(&mut response.into_body(), |_| {}).await, Ok(STREAMED));
}

/// Sends as fast as the origin, which is slow, takes it.
async fn upload(program: &Program, protocol: Protocol, path: &str) {
    let mut client = Client::connect(program.address("web"), protocol).await.unwrap();
    let request = Request::post(path).body(Filling::new(STREAMED).boxed()).unwrap();
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, STREAMED.to_string());
}

/// How much more than `idle` was resident at the most, in KiB.
fn growth(program: &Program, what: &str, run: impl Future<Output = ()>) -> u64 {
    let idle = program.resident();
    program.forget_peak();
    block_on(run);
    let growth = program.peak().saturating_sub(idle);
    println!("{what}: {idle} KiB idle, {growth} KiB more at the peak");
    growth
}

#[test]
fn a_hundred_mebibytes_with_a_slow_reader_take_no_memory_in_either_direction() {
    let origin = Origin::start("origin");
    let program = start(&origin);
    for (protocol, prefix) in PROTOCOLS {
        // Code that runs for the first time is read in, and the allocator takes its first pages: neither is memory of
        // the exchanges that are measured.
        ask(&program, protocol, get(&format!("{prefix}/bytes/{WARM}")));
        ask(&program, protocol, post(&format!("{prefix}/sink"), vec![b'z'; WARM]));
    }
    for (protocol, prefix) in PROTOCOLS {
        let path = format!("{prefix}/bytes/{STREAMED}");
        let down = download(&program, &origin, protocol, &path);
        let down = growth(&program, &format!("{protocol:?} down"), down);
        let path = format!("{prefix}/sink");
        let up = growth(&program, &format!("{protocol:?} up"), upload(&program, protocol, &path));
        assert!(down <= ROOM && up <= ROOM, "{protocol:?}: {down} KiB down, {up} KiB up");
    }
}
