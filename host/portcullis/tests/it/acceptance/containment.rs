//! Filters that loop for ever, allocate without end or panic: everybody else goes on as if they were not there.

use std::time::{Duration, Instant};

use super::clients::{Answer, Client, Protocol, block_on, get};
use super::load::{Load, Outcome, lanes};
use super::origin::Origin;
use super::program::Program;
use super::{documents, guests, soak};

/// How a filter misbehaves, and the reason that is counted.
const SINS: [(&str, &str); 3] = [("loop", "cpu"), ("eat", "memory"), ("panic", "panic")];
/// One exchange of so many is bad.
const SHARE: u64 = 50;
/// Traps within ten seconds that suspend a filter.
const TRAPS: u64 = 5;
/// A debug build's share of the time that the issue asks for.
const SHORT: Duration = Duration::from_secs(8);
/// Twice `limits.callback`: how much an innocent exchange may wait longer.
const GRACE: Duration = Duration::from_millis(20);

/// Three filters with one module, each on a route of its own, one that fails open, and an innocent one that everybody
/// passes.
fn files(origin: &Origin) -> String {
    let mut text = documents::backend("app", "HTTP", origin.address)
        + &documents::route("plain", &documents::rule("/plain", &[], "app"));
    text += &documents::filter("stamp", "url: file://stamp.wasm, pluginConfig: \"1\"");
    for (sin, _) in SINS {
        text += &documents::filter(sin, "url: file://bad.wasm, attach: ROUTE");
        text += &documents::route(sin, &documents::rule(&format!("/{sin}"), &[sin], "app"));
    }
    text +=
        &documents::filter("open", "url: file://bad.wasm, attach: ROUTE, failStrategy: FAIL_OPEN");
    text + &documents::route("open", &documents::rule("/open", &["open"], "app"))
}

fn start(origin: &Origin) -> Program {
    Program::start(&[
        ("proxy.yaml", documents::proxy().as_bytes()),
        ("app.yaml", files(origin).as_bytes()),
        ("bad.wasm", &guests::misbehaving()),
        ("stamp.wasm", &guests::stamp('a')),
    ])
}

fn is_untouched(answer: &Answer) -> Result<(), String> {
    match answer.status.is_success() && *answer.body == *b"origin guest=a1 route=none\na1" {
        true => Ok(()),
        false => Err(format!("{answer:?}")),
    }
}

/// One request on a connection of its own; with `sin` its filter misbehaves.
fn send(program: &Program, path: &str, sin: Option<&str>) -> Answer {
    let mut request = get(path);
    if let Some(sin) = sin {
        request.headers_mut().insert("x-bad", sin.parse().unwrap());
    }
    block_on(async {
        let mut client = Client::connect(program.address("web"), Protocol::Http1).await.unwrap();
        client.send(request).await.unwrap()
    })
}

/// One of the filter's metrics.
fn metric(program: &Program, name: &str, filter: &str) -> u64 {
    let label = format!("filter=\"default/{filter}\"");
    program.metric(&format!("portcullis_filter_{name}"), &[&label])
}

fn traps(program: &Program, filter: &str, reason: &str) -> u64 {
    let labels = [format!("filter=\"default/{filter}\""), format!("reason=\"{reason}\"")];
    program.metric("portcullis_filter_traps_total", &labels.each_ref().map(String::as_str))
}

fn state(program: &Program, filter: &str) -> String {
    let status = program.status();
    let filters = status["proxy"]["filters"].as_array().unwrap();
    let name = format!("default/{filter}");
    let found = filters.iter().find(|one| one["name"] == name.as_str()).unwrap();
    found["state"].as_str().unwrap().to_owned()
}

/// Injects until every filter is suspended, each trap counted once; the filters are taken in turn.
fn until_suspended(program: &Program, load: &Load) {
    for injected in 1..=TRAPS {
        for (sin, reason) in SINS {
            assert_ne!(state(program, sin), "suspended", "{sin} after {}", injected - 1);
            load.wait_for(SHARE);
            let answer = send(program, &format!("/{sin}"), Some(sin));
            assert_eq!(answer.status, 503, "{answer:?}");
            assert_eq!(answer.header("x-portcullis-code"), "P0707");
            let counted = traps(program, sin, reason);
            assert_eq!(counted, injected, "{sin}: {:#}", program.status()["proxy"]["filters"]);
            if injected == TRAPS {
                assert_eq!(state(program, sin), "suspended", "{sin}");
                assert_eq!(metric(program, "suspended", sin), 1, "{sin}");
                // Without running it.
                assert_eq!(send(program, &format!("/{sin}"), Some(sin)).status, 503);
                assert_eq!(traps(program, sin, reason), injected, "{sin}");
            }
        }
    }
}

/// Goes on sinning for as long as the test may take. What shares an instance with a sinner and is not in it at that
/// moment is served, before and after.
fn go_on(program: &Program, load: &Load, end: Instant) -> u64 {
    let mut injected = 0;
    for (sin, _) in SINS.into_iter().cycle() {
        if Instant::now() > end {
            break;
        }
        load.wait_for(SHARE);
        assert_eq!(send(program, &format!("/{sin}"), Some(sin)).status, 503);
        is_untouched(&send(program, "/open", None)).unwrap();
        is_untouched(&send(program, "/open", Some(sin))).unwrap();
        is_untouched(&send(program, "/open", None)).unwrap();
        injected += 1;
    }
    injected
}

/// Load beside the bad filters, and load in the very instance that dies, whose filter fails open.
struct Loads {
    beside: Load,
    within: Load,
}

impl Loads {
    fn start(program: &Program) -> Loads {
        let load = |path| Load::start(lanes(program.address("web"), path), is_untouched);
        Loads { beside: load("/plain"), within: load("/open") }
    }

    /// What became of those beside. Nobody has failed.
    fn end(self) -> Outcome {
        self.within.end().assert_clean();
        let beside = self.beside.end();
        beside.assert_clean();
        beside
    }
}

#[test]
fn a_filter_that_loops_eats_memory_or_panics_fails_nobody_but_its_own_exchanges() {
    let origin = Origin::start("origin");
    let program = start(&origin);
    let (duration, asked) = soak(SHORT);
    let (loads, end) = (Loads::start(&program), Instant::now() + duration / 4);
    while Instant::now() < end {
        loads.beside.wait_for(SHARE);
    }
    let peace = loads.end();
    let (loads, end) = (Loads::start(&program), Instant::now() + duration);
    until_suspended(&program, &loads.beside);
    let injected = go_on(&program, &loads.beside, end);
    let outcome = loads.end();
    let (before, under) = (peace.p99(), outcome.p99());
    println!(
        "{} exchanges beside {} bad ones, {} failed; p99 {under:?}, without them {before:?}",
        outcome.sent,
        injected + TRAPS * SINS.len() as u64,
        outcome.failed
    );
    for (sin, reason) in SINS {
        let ran = metric(&program, "exchanges_total", sin);
        assert_eq!(metric(&program, "traps_total", sin), ran, "{sin}: every exchange that it saw");
        assert_eq!(traps(&program, sin, reason), ran, "{sin}: for another reason");
    }
    assert_eq!(metric(&program, "traps_total", "stamp"), 0);
    assert!(!asked || under <= before + GRACE, "p99 {under:?}, without the bad filters {before:?}");
}
