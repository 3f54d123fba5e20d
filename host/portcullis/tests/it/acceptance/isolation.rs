//! Two hundred exchanges in flight with an instance each, and twenty of them trap: nobody else notices.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::sync::oneshot;

use super::clients::{Answer, Client, Error, Protocol, block_on, get};
use super::origin::{Origin, PART, marks};
use super::program::Program;
use super::{documents, guests};

const FLIGHT: usize = 200;
/// Of these, one in ten traps: in the request's body, in the response's body, in the log phase.
const SINS: [&str; 3] = ["request", "body", "log"];
const SINNERS: usize = 20;
/// Free instances that stay.
const WARM: usize = 4;

/// A request's body that ends when it is told to.
struct Held(oneshot::Receiver<()>);

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let told = Pin::new(&mut self.0).poll(context);
        told.map(|_| None)
    }
}

/// How exchange `number` misbehaves.
fn sin(number: usize) -> Option<&'static str> {
    let every = FLIGHT / SINNERS;
    number.is_multiple_of(every).then(|| SINS[number / every % SINS.len()])
}

fn start(origin: &Origin) -> Program {
    let filter = format!(
        "url: file://alone.wasm, isolation: EXCLUSIVE, limits: {{instances: {FLIGHT}, wait: 1m}}"
    );
    let text = documents::backend("app", "HTTP", origin.address)
        + &documents::route("app", &documents::rule("/", &[], "app"))
        + &documents::filter("alone", &filter);
    let proxy = documents::proxy().replace("workers: 2", "workers: 1");
    Program::start(&[
        ("proxy.yaml", proxy.as_bytes()),
        ("app.yaml", text.as_bytes()),
        ("alone.wasm", &guests::alone()),
    ])
}

/// Exchange `number`, on a connection of its own; its request ends with `rest`.
async fn exchange(
    address: SocketAddr,
    number: usize,
    rest: oneshot::Receiver<()>,
) -> Result<Answer, Error> {
    let protocol = if number % 4 < 2 { Protocol::Http1 } else { Protocol::Http2 };
    let mut request = match sin(number) {
        Some("request") => Request::post("/echo").body(Held(rest).boxed())?,
        _ => get("/stream"),
    };
    let headers = request.headers_mut();
    headers.insert("x-route", number.into());
    if let Some(sin) = sin(number) {
        headers.insert("x-bad", sin.parse()?);
    }
    Client::connect(address, protocol).await?.send(request).await
}

/// A stream that is all there, and whose instance saw nobody else.
fn assert_untouched(number: usize, answer: &Answer) {
    assert_eq!(answer.status, 200, "{number}: {answer:?}");
    let mut sent = http::HeaderMap::new();
    sent.insert("x-guest", "alone".parse().unwrap());
    sent.insert("x-route", number.into());
    let first = marks("origin", &sent);
    let parts = answer.body.len().saturating_sub(first.len() + "alone".len()) / PART.len();
    let expected = [first.as_bytes(), &PART.repeat(parts), b"alone"].concat();
    assert!(answer.body == expected, "{number}: {:?}", String::from_utf8_lossy(&answer.body));
}

/// The filter's line in the status.
fn filter(status: &serde_json::Value) -> &serde_json::Value {
    &status["proxy"]["filters"][0]
}

type Outcome = Result<Answer, String>;

/// Sends all these at once, on a thread of its own.
fn send(
    address: SocketAddr,
    requests: Vec<(usize, oneshot::Receiver<()>)>,
) -> JoinHandle<Vec<(usize, Outcome)>> {
    thread::spawn(move || {
        block_on(async move {
            let sent: Vec<_> = requests
                .into_iter()
                .map(|(number, rest)| (number, tokio::spawn(exchange(address, number, rest))))
                .collect();
            let mut outcomes = Vec::new();
            for (number, sent) in sent {
                outcomes.push((number, sent.await.unwrap().map_err(|error| error.to_string())));
            }
            outcomes
        })
    })
}

fn assert_as_expected((number, outcome): (usize, Outcome)) {
    match (sin(number), outcome) {
        (Some("request"), Ok(answer)) => assert_eq!(answer.header("x-portcullis-code"), "P0707"),
        (Some("body"), outcome) => assert!(outcome.is_err(), "{number}: {outcome:?}"),
        (_, outcome) => assert_untouched(number, &outcome.unwrap()),
    }
}

#[test]
fn of_two_hundred_exchanges_in_flight_twenty_trap_and_the_others_notice_nothing() {
    let origin = Origin::start("origin");
    let program = start(&origin);
    let address = program.address("web");
    let (rest, requests): (Vec<_>, Vec<_>) = (0..FLIGHT)
        .map(|number| {
            let (rest, held) = oneshot::channel();
            (rest, (number, held))
        })
        .unzip();
    let flight = send(address, requests);
    program.wait("all have an instance", |status| {
        status["proxy"]["exchanges"] == FLIGHT && filter(status)["pool"]["waiting"] == 0
    });
    assert_eq!(filter(&program.status())["instances"], FLIGHT);
    let one_more = send(address, vec![(1, oneshot::channel().1)]);
    program.wait("one more waits", |status| filter(status)["pool"]["waiting"] == 1);
    drop(rest);
    origin.finish();
    flight.join().unwrap().into_iter().for_each(assert_as_expected);
    one_more.join().unwrap().into_iter().for_each(assert_as_expected);
    program.wait("the pool is back at its bound", |status| {
        let filter = filter(status);
        filter["traps"]["trap"] == SINNERS
            && filter["instances"] == FLIGHT
            && filter["pool"]["idle"] == FLIGHT
    });
    program.wait("what is not needed any more ends", |status| filter(status)["instances"] == WARM);
    let status = program.status();
    let filter = filter(&status);
    assert_eq!((&filter["state"], &filter["pool"]["expired"]), (&"live".into(), &0.into()));
}
