//! Probes: about one request for each thousand of the load, on connections of their own, whose responses are compared in full with what the
//! scenario says. They end with the load.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;

use crate::net::{self, Answer, Connection, Dialect, Identity};
use crate::scenario::{Effect, PeerName, Scenario, Speech};
use crate::upstream::Upstream;

/// One in so many requests is a probe.
const ONE_IN: f64 = 1000.0;
/// At least so many in a round.
const AT_LEAST: f64 = 8.0;
/// Asks the upstream to tell which headers of filters have arrived.
const MARK: (&str, &str) = ("x-probe", "1");

/// What a right response is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// All of the body.
    pub body: Bytes,
    /// How many filters leave a header, each way.
    pub marks: u32,
}

/// What a peer has to answer in a scenario.
///
/// # Errors
/// The upstream has no such body.
pub fn expected(scenario: &Scenario, peer: PeerName, upstream: &Upstream) -> Result<Expected> {
    let filters = scenario.filters_on(peer);
    let of = |effect: Effect| filters.filter(|filters| filters.effect == effect);
    let mut body = upstream.body(&scenario.path)?;
    if of(Effect::Capitals).is_some() {
        body = body.to_ascii_uppercase().into();
    }
    Ok(Expected { body, marks: of(Effect::Headers).map_or(0, |filters| filters.count) })
}

impl Expected {
    /// Compares a response with it.
    ///
    /// # Errors
    /// Says what differs.
    pub fn compare(&self, answer: &Answer) -> Result<()> {
        ensure!(answer.status == 200, "status {} instead of 200", answer.status);
        let header = |name: &str| {
            answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let kind = header("content-type");
        ensure!(kind == "text/plain", "content-type {kind:?} instead of text/plain");
        for number in 1..=self.marks {
            let name = format!("x-bench-{number}");
            let value = header(&name);
            ensure!(value == "response", "{name} is {value:?} instead of \"response\"");
        }
        let seen: Vec<&str> = header("x-seen").split_whitespace().collect();
        ensure!(
            seen == vec!["request"; self.marks as usize],
            "the upstream saw {seen:?} of {} headers that filters set",
            self.marks
        );
        let differs = || answer.body.iter().zip(&self.body).position(|(got, right)| got != right);
        ensure!(
            answer.body == self.body,
            "a body of {} bytes instead of {}, first other byte at {:?}",
            answer.body.len(),
            self.body.len(),
            differs()
        );
        Ok(())
    }
}

/// How a scenario's clients speak.
///
/// # Errors
/// The certificates are not there.
pub fn dialect(scenario: &Scenario, certificates: &Path) -> Result<Dialect> {
    let tls = match scenario.client {
        Speech::Http1 | Speech::Http2 => None,
        Speech::Tls => Some(net::tls(certificates, Identity::Anonymous)?),
        Speech::Mtls => Some(net::tls(certificates, Identity::Client)?),
    };
    Ok(Dialect { http2: scenario.client == Speech::Http2, tls })
}

/// The time between two probes at a rate of load, in a round of so many seconds.
#[must_use]
pub fn every(rate: f64, seconds: u32) -> Duration {
    let probes = (rate / ONE_IN).max(AT_LEAST / f64::from(seconds));
    Duration::from_secs_f64(1.0 / probes)
}

/// Probes at work.
#[derive(Debug)]
pub struct Probing {
    stop: Sender<()>,
    thread: JoinHandle<Result<u64>>,
}

impl Probing {
    /// Begins.
    ///
    /// # Errors
    /// No thread.
    pub fn start(
        address: SocketAddr,
        scenario: &Scenario,
        dialect: Dialect,
        expected: Expected,
        pause: Duration,
    ) -> Result<Probing> {
        let (stop, stopped) = mpsc::channel();
        let mut prober = Prober {
            address,
            dialect,
            expected,
            paths: scenario.paths(),
            close: scenario.close,
            connection: None,
            sent: 0,
        };
        let runtime = net::runtime()?;
        let probe = move || loop {
            runtime.block_on(prober.probe())?;
            // The connection's own task runs while the next probe does; what it missed meanwhile waits.
            if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return Ok(prober.sent);
            }
        };
        let thread = thread::Builder::new().name("probe".to_owned()).spawn(probe)?;
        Ok(Probing { stop, thread })
    }

    /// Ends; how many there were.
    ///
    /// # Errors
    /// One had another response than expected.
    pub fn finish(self) -> Result<u64> {
        let _ended_already = self.stop.send(());
        self.thread.join().map_err(|_| anyhow!("the probes panicked"))?
    }
}

struct Prober {
    address: SocketAddr,
    dialect: Dialect,
    expected: Expected,
    paths: Vec<String>,
    close: bool,
    connection: Option<Connection>,
    sent: u64,
}

impl Prober {
    async fn probe(&mut self) -> Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.address, &self.dialect).await?,
        };
        let turn = usize::try_from(self.sent)? % self.paths.len();
        let closing = if self.close { &[MARK, ("connection", "close")][..] } else { &[MARK][..] };
        let answer = connection.get(&self.paths[turn], closing).await;
        let answer = answer.with_context(|| format!("probe {} has no answer", self.sent))?;
        self.expected.compare(&answer).with_context(|| format!("probe {} differs", self.sent))?;
        self.sent += 1;
        self.connection = Some(connection).filter(|_| !self.close);
        Ok(())
    }
}
