//! Two hundred swaps under load: nothing fails, no exchange sees two generations, and nothing is left behind.

use std::collections::BTreeMap;
use std::iter;
use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::PATIENCE;
use super::clients::{Answer, Client, Protocol, block_on, get};
use super::documents::Identity;
use super::load::{Connections, Lane, Load, lanes};
use super::origin::{Origin, PART, marks};
use super::program::Program;
use super::{documents, guests};

const SWAPS: u64 = 200;
/// Every one with this divisor is broken.
const BROKEN: u64 = 10;
/// Every one with this divisor comes with another certificate.
const CERTIFICATE: u64 = 25;
/// Resident memory is compared with that after this swap.
const WARM: u64 = 20;
/// How much more may be resident in the end, in KiB.
const GROWTH: u64 = 2 << 10;
const STREAMS: usize = 10;
/// Answers between two swaps, and between two looks at the memory.
const TRAFFIC: u64 = 10;
/// What a swap needed for a moment is not counted: the least of so many looks is.
const LOOKS: usize = 10;

/// Filter and route of one configuration, in one object.
fn application(version: char) -> String {
    let edit = |kind: &str, field: &str| {
        format!("{{type: {kind}, {field}: {{set: [{{name: x-route, value: \"{version}\"}}]}}}}")
    };
    documents::filter("stamp", &format!("url: file://stamp.wasm, pluginConfig: \"{version}\""))
        + &documents::route(
            "app",
            &format!(
                "filters: [{}, {}], backendRefs: [{{name: app, port: 80}}]",
                edit("RequestHeaderModifier", "requestHeaderModifier"),
                edit("ResponseHeaderModifier", "responseHeaderModifier")
            ),
        )
}

/// All marks of an exchange are those of one generation, and nothing else is in it.
fn of_one_generation(answer: &Answer, body: &[u8]) -> Result<(), String> {
    let (guest, route) = (answer.header("x-guest"), answer.header("x-route"));
    let known = ["a1", "a2", "b1", "b2"].contains(&guest) && guest.ends_with(route);
    let mut sent = http::HeaderMap::new();
    for (name, value) in [("x-guest", guest), ("x-route", route)] {
        sent.insert(name, value.parse().map_err(|_| "a strange mark")?);
    }
    let expected = [marks("origin", &sent).as_bytes(), body, guest.as_bytes()].concat();
    match answer.status.is_success() && known && !route.is_empty() && answer.body == expected {
        true => Ok(()),
        false => Err(format!("expected {:?}, {answer:?}", String::from_utf8_lossy(&expected))),
    }
}

/// What the files say, and what is expected of it.
struct Story {
    program: Program,
    generation: u64,
    refused: u64,
    module: char,
    version: char,
}

impl Story {
    /// Swaps module or configuration, in turn.
    fn swap(&mut self, number: u64) {
        let other = |now, one, two| if now == one { two } else { one };
        let module_is_next = number.is_multiple_of(2);
        if module_is_next {
            self.module = other(self.module, 'a', 'b');
            self.program.write("stamp.wasm", &guests::stamp(self.module));
        } else {
            self.version = other(self.version, '1', '2');
            self.program.write("app.yaml", application(self.version).as_bytes());
        }
        self.accepted();
    }

    fn accepted(&mut self) {
        self.generation += 1;
        let generation = self.generation;
        self.program.wait("a new generation", |status| {
            status["generation"] == generation && nothing_is_wrong(status)
        });
    }

    /// A broken module, a filter that refuses its configuration, and a broken document, in turn; then all is as before.
    fn spoil(&mut self, number: u64) {
        let (file, good) = match number / BROKEN % 3 {
            2 => ("app.yaml", application(self.version).into_bytes()),
            _ => ("stamp.wasm", guests::stamp(self.module)),
        };
        let bad = match number / BROKEN % 3 {
            0 => b"no module".to_vec(),
            1 => guests::refusing(),
            _ => application('9').replace("filters", "flters").into_bytes(),
        };
        self.program.write(file, &bad);
        self.refused += 1;
        let (generation, refused) = (self.generation, self.refused);
        let status = self.program.wait("refused", |status| status["refused_total"] == refused);
        assert_eq!(status["generation"], generation, "{status:#}");
        self.program.write(file, &good);
        let status = self.program.wait("all is as before", nothing_is_wrong);
        assert_eq!(status["generation"], generation, "{status:#}");
    }

    /// In KiB.
    fn resident(&self, load: &Load) -> u64 {
        let look = || {
            load.wait_for(TRAFFIC);
            self.program.resident()
        };
        iter::repeat_with(look).take(LOOKS).min().unwrap()
    }

    fn instances(&self) -> u64 {
        self.program.metric("portcullis_filter_instances", &["default/stamp"])
    }
}

fn nothing_is_wrong(status: &Value) -> bool {
    status["sources"].as_array().unwrap().iter().all(|source| source["problem"].is_null())
}

/// A long response, read while the swaps go on.
fn stream(address: SocketAddr, protocol: Protocol) -> JoinHandle<Result<(), String>> {
    tokio::spawn(async move {
        let mut client = Client::connect(address, protocol).await.map_err(|e| e.to_string())?;
        let response = client.open(get("/stream")).await.map_err(|e| e.to_string())?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let first = body.iter().position(|byte| *byte == b'\n').ok_or("no marks")? + 1;
        let rest = body.len() - first - 2;
        let parts = PART.repeat(rest / PART.len());
        let answer = Answer { status: head.status, headers: head.headers, body };
        of_one_generation(&answer, &parts)
    })
}

/// Ten streams, on a thread of their own until they have ended.
fn streams(address: SocketAddr) -> std::thread::JoinHandle<Vec<Result<(), String>>> {
    std::thread::spawn(move || {
        block_on(async move {
            let protocol = |index| if index % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
            let all: Vec<_> = (0..STREAMS).map(|index| stream(address, protocol(index))).collect();
            let mut results = Vec::new();
            for one in all {
                let ended = timeout(PATIENCE.saturating_mul(10), one).await;
                results.push(ended.map_or(Err("never ended".to_owned()), Result::unwrap));
            }
            results
        })
    })
}

fn shown(address: SocketAddr, identities: &[Identity; 2]) -> CertificateDer<'static> {
    let trusted = identities.each_ref().map(|identity| identity.certificate.clone());
    block_on(async { Client::secure(address, Protocol::Http2, &trusted).await.unwrap().1 })
}

#[test]
fn two_hundred_swaps_under_load_fail_no_request_and_leave_nothing_behind() {
    let origin = Origin::start("origin");
    let identities = [Identity::new(), Identity::new()];
    let program = Program::start(&[
        ("proxy.yaml", documents::proxy_with_tls("both.pem").as_bytes()),
        ("both.pem", identities[0].file.as_bytes()),
        ("backend.yaml", documents::backend("app", "HTTP", origin.address).as_bytes()),
        ("app.yaml", application('1').as_bytes()),
        ("stamp.wasm", &guests::stamp('a')),
    ]);
    let (plain, secure) = (program.address("web"), program.address("secure"));
    let streams = streams(plain);
    program.wait("the streams run", |status| status["proxy"]["exchanges"] == STREAMS);
    let mut story = Story { program, generation: 1, refused: 0, module: 'a', version: '1' };
    let instances = story.instances();
    let trusted: Vec<_> = identities.iter().map(|identity| identity.certificate.clone()).collect();
    let mut all = lanes(plain, "/");
    all.extend([Protocol::Http1, Protocol::Http2].map(|protocol| {
        let connections = Connections::NewForEach;
        Lane { address: secure, protocol, connections, trusted: trusted.clone(), path: "/" }
    }));
    let load = Load::start(all, |answer| of_one_generation(answer, b""));
    let mut resident = BTreeMap::new();
    for number in 1..=SWAPS {
        match number.is_multiple_of(BROKEN) {
            true => story.spoil(number),
            false => story.swap(number),
        }
        if number.is_multiple_of(CERTIFICATE) {
            let next = &identities[(number / CERTIFICATE % 2) as usize];
            story.program.write("both.pem", next.file.as_bytes());
            story.accepted();
            assert_eq!(shown(secure, &identities), next.certificate, "after swap {number}");
        }
        load.wait_for(TRAFFIC);
        if number.is_multiple_of(WARM) {
            resident.insert(number, story.resident(&load));
        }
    }
    let outcome = load.end();
    println!(
        "{} exchanges, {} failed; resident KiB after swaps {resident:?}",
        outcome.sent, outcome.failed
    );
    outcome.assert_clean();
    origin.finish();
    let ended = streams.join().unwrap();
    assert_eq!(ended, vec![Ok(()); STREAMS]);
    story.program.wait("one generation is left", |status| {
        status["proxy"]["generations"].as_array().unwrap().len() == 1
    });
    assert_eq!(story.instances(), instances);
    let growth = resident[&SWAPS].saturating_sub(resident[&WARM]);
    assert!(growth <= GROWTH, "{growth} KiB: {resident:?}\n{}", story.program.memory_map());
    assert!(story.program.stop().success());
}
