//! Compares what happened with what a case says; a sentence for each thing that is otherwise.

use std::collections::BTreeMap;

use crate::case::{Case, Client, Field, Upstream};
use crate::host::Line;
use crate::net::{Received, Recorded, Seen};
use crate::play::Played;

/// Everything that is not as the case says.
#[must_use]
pub fn problems(case: &Case, played: &Played) -> Vec<String> {
    let mut found = Vec::new();
    match &played.refused {
        Some(_) if !case.starts => return found,
        Some(why) => return vec![format!("it does not start: {why}")],
        None if !case.starts => return vec!["it starts".to_owned()],
        None => {}
    }
    let exchanges = case.requests.iter().zip(&played.exchanges);
    for (at, (expected, (received, recorded))) in exchanges.enumerate() {
        let mut here = Vec::new();
        client(&expected.client, received, &mut here);
        if let Some(upstream) = &expected.upstream {
            origin(upstream, recorded, &mut here);
        }
        found.extend(here.into_iter().map(|problem| format!("request {}: {problem}", at + 1)));
    }
    for (at, (expected, received)) in case.connections.iter().zip(&played.connections).enumerate() {
        let received = String::from_utf8_lossy(received);
        if expected.client.as_ref().is_some_and(|expected| *expected != received) {
            let (at, expected) = (at + 1, &expected.client);
            found.push(format!("connection {at}: the client gets {received:?}, not {expected:?}"));
        }
    }
    if let Some(expected) = &case.log {
        log(expected, &lines(case, &played.log), &mut found);
    }
    for (name, expected) in &case.metrics {
        let actual = played.metrics.get(name).copied();
        if actual != Some(*expected) {
            found.push(format!("metric {name} is {actual:?}, not {expected}"));
        }
    }
    found
}

/// What is otherwise for a client.
pub fn client(expected: &Client, received: &Received, found: &mut Vec<String>) {
    if expected.status.is_some() && expected.status != received.status {
        found.push(format!(
            "the client gets status {:?}, not {:?}",
            received.status, expected.status
        ));
    }
    if expected.broken != received.seen.broken {
        let how = if received.seen.broken { "breaks off" } else { "is whole" };
        found.push(format!("the client's response {how}"));
    }
    message("client", &expected.headers, &expected.trailers, &received.seen, found);
    body("client", expected.body.as_ref(), &received.seen, found);
}

/// What is otherwise for an origin.
pub fn origin(expected: &Upstream, recorded: &[Recorded], found: &mut Vec<String>) {
    let request = match recorded {
        [] if !expected.reached => return,
        [request] if expected.reached => request,
        requests => {
            let count = requests.len();
            found.push(format!("the origin gets {count} requests"));
            return;
        }
    };
    for (what, expected, actual) in
        [("method", &expected.method, &request.method), ("path", &expected.path, &request.path)]
    {
        if expected.as_ref().is_some_and(|expected| expected != actual) {
            found.push(format!("the origin gets {what} {actual}, not {expected:?}"));
        }
    }
    message("origin", &expected.headers, &expected.trailers, &request.seen, found);
    body("origin", expected.body.as_ref(), &request.seen, found);
}

fn message(
    who: &str,
    headers: &BTreeMap<String, Field>,
    trailers: &BTreeMap<String, Field>,
    seen: &Seen,
    found: &mut Vec<String>,
) {
    for (kind, expected, actual) in
        [("header", headers, &seen.headers), ("trailer", trailers, &seen.trailers)]
    {
        for (name, expected) in expected {
            let actual = Seen::field(actual, name);
            let holds = match expected {
                Field::Present(present) => actual.is_some() == *present,
                Field::Value(value) => actual.as_ref() == Some(value),
            };
            if !holds {
                found.push(format!("the {who} gets {kind} {name} {actual:?}, not {expected:?}"));
            }
        }
    }
}

fn body(who: &str, expected: Option<&String>, seen: &Seen, found: &mut Vec<String>) {
    let actual = String::from_utf8_lossy(&seen.body);
    if let Some(expected) = expected.filter(|expected| **expected != actual) {
        found.push(format!("the {who} gets body {actual:?}, not {expected:?}"));
    }
}

/// As cases have them.
fn lines(case: &Case, log: &[Line]) -> Vec<String> {
    let line = |line: &Line| match case.filters.len() {
        1 => line.message.clone(),
        _ => format!("{}: {}", line.filter.trim_start_matches("default/"), line.message),
    };
    log.iter().map(line).collect()
}

fn log(expected: &[String], actual: &[String], found: &mut Vec<String>) {
    if expected == actual {
        return;
    }
    let same = expected.iter().zip(actual).take_while(|(one, other)| one == other).count();
    let show =
        |lines: &[String]| lines.get(same).map_or("the end".to_owned(), |line| format!("{line:?}"));
    found.push(format!(
        "line {} of the log is {}, not {}; all of it: {actual:#?}",
        same + 1,
        show(actual),
        show(expected)
    ));
}
