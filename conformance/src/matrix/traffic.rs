//! What goes through a host while the probe fills cells: the servers' answers, the clients' requests and connections, and what
//! of all that came out otherwise than always.

use std::collections::BTreeMap;

use crate::case::{Answer, Backend, Exchange, FilterType, Piece, Protocol};
use crate::net::{Received, Recorded, Seen};

fn field(value: &str) -> Vec<(String, String)> {
    vec![("x-value".to_owned(), value.to_owned())]
}

/// Everything on HTTP/2, so that trailers pass; only connections end at a server that sends back what it gets.
pub(super) fn backends(kind: FilterType) -> BTreeMap<String, Backend> {
    let answer = Answer {
        headers: field("response"),
        body: vec![Piece::Text("pong".to_owned())],
        trailers: field("end of response"),
        ..Answer::default()
    };
    let called =
        Answer { headers: field("called"), trailers: field("end of call"), ..answer.clone() };
    let mut grpc = Answer {
        body: vec![Piece::Text("\0\0\0\0\u{4}pong".to_owned())],
        headers: field("initial metadata"),
        trailers: field("trailing metadata"),
        ..Answer::default()
    };
    grpc.headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
    grpc.trailers.push(("grpc-status".to_owned(), "0".to_owned()));
    [("origin", answer), ("aux", called), ("grpc", grpc)]
        .into_iter()
        .map(|(name, answer)| {
            let backend = match kind {
                FilterType::Network if name == "origin" => echo(),
                _ => Backend { protocol: Protocol::Http2, refuses: false, answer },
            };
            (name.to_owned(), backend)
        })
        .collect()
}

fn echo() -> Backend {
    Backend { protocol: Protocol::Tcp, refuses: false, answer: Answer::default() }
}

/// What a client sends on a connection, and gets back if nothing unusual happens.
pub(super) fn bytes(cells: &str) -> String {
    if cells.is_empty() { "hello".to_owned() } else { format!("cells {cells}") }
}

/// What the client of a connection got, as far as it is not what it sent. How soon a host closes a connection that nothing comes
/// on is a matter of its timers: nothing is nothing.
pub(super) fn unusual_connection(sent: &str, received: Option<&[u8]>) -> String {
    let received = String::from_utf8_lossy(received.unwrap_or_default());
    if received == sent {
        return String::new();
    }
    if received.is_empty() {
        return "; client gets nothing".to_owned();
    }
    format!("; client gets {received:?}")
}

pub(super) fn request(cells: &str) -> Exchange {
    let mut headers = field("request");
    if !cells.is_empty() {
        headers.push(("x-cells".to_owned(), cells.to_owned()));
    }
    Exchange {
        method: "POST".to_owned(),
        path: "/probe".to_owned(),
        protocol: Protocol::Http2,
        headers,
        body: vec![Piece::Text("ping".to_owned())],
        trailers: field("end of request"),
        ..Exchange::default()
    }
}

/// What the client and the origin saw, as far as it is not what they always see. What a host says in an error response of its
/// own is left out.
pub(super) fn unusual(received: Option<&Received>, recorded: &[Recorded]) -> String {
    let mut found = Vec::new();
    match received {
        None => found.push("client waits in vain".to_owned()),
        Some(Received { status: None, .. }) => found.push("client reset".to_owned()),
        Some(Received { seen, .. }) if seen.broken => found.push("client reset".to_owned()),
        Some(Received { status: Some(200), seen }) => {
            message("client", seen, ["response", "pong", "end of response"], &mut found);
        }
        Some(Received { status: Some(status), .. }) => found.push(format!("client {status}")),
    }
    match recorded {
        [] => found.push("origin not reached".to_owned()),
        [request] if request.seen.broken => found.push("origin reset".to_owned()),
        [request] => {
            let expected = ["request", "ping", "end of request"];
            message("origin", &request.seen, expected, &mut found);
        }
        _ => found.push(format!("origin reached {} times", recorded.len())),
    }
    found.iter().map(|unusual| format!("; {unusual}")).collect()
}

fn message(who: &str, seen: &Seen, expected: [&str; 3], found: &mut Vec<String>) {
    let body = String::from_utf8_lossy(&seen.body);
    if body != expected[1] {
        found.push(format!("{who} body {body:?}"));
    }
    for (kind, fields, expected) in
        [("header", &seen.headers, expected[0]), ("trailer", &seen.trailers, expected[2])]
    {
        let value = Seen::field(fields, "x-value");
        if value.as_deref() != Some(expected) {
            found.push(format!("{who} {kind} x-value {}", value.as_deref().unwrap_or("gone")));
        }
        if let Some(value) = Seen::field(fields, "x-fresh") {
            found.push(format!("{who} {kind} x-fresh {value}"));
        }
    }
}
