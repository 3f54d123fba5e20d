//! Steady load on several lanes at once: each sends one request after the other, without retries, and every answer is
//! checked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::PATIENCE;
use super::clients::{Answer, Client, Error, Protocol, block_on, get};

/// Between two requests of a lane.
const BEAT: Duration = Duration::from_millis(5);
/// Failures that are kept in words.
const WORDS: usize = 10;

/// Which connections a lane's requests travel on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    Kept,
    NewForEach,
}

/// One sender of requests.
#[derive(Clone, Debug)]
pub struct Lane {
    pub address: SocketAddr,
    pub protocol: Protocol,
    pub connections: Connections,
    /// By TLS, trusting these; empty: without TLS.
    pub trusted: Vec<CertificateDer<'static>>,
    pub path: &'static str,
}

/// HTTP/1.1 and HTTP/2, half of the requests on new connections.
pub fn lanes(address: SocketAddr, path: &'static str) -> Vec<Lane> {
    let both = [Protocol::Http1, Protocol::Http2];
    let lane = |protocol| {
        [Connections::Kept, Connections::NewForEach].map(|connections| Lane {
            address,
            protocol,
            connections,
            trusted: Vec::new(),
            path,
        })
    };
    both.into_iter().flat_map(lane).collect()
}

/// Load until it is ended.
pub struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<Vec<Outcome>>,
}

struct Shared {
    ended: AtomicBool,
    sent: AtomicU64,
    check: Check,
}

/// What is wrong with an answer.
type Check = Box<dyn Fn(&Answer) -> Result<(), String> + Send + Sync>;

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Outcome {
    pub sent: u64,
    pub failed: u64,
    /// The first failures.
    pub failures: Vec<String>,
    times: Vec<Duration>,
}

impl Load {
    /// `check` says what is wrong with an answer.
    pub fn start(
        lanes: Vec<Lane>,
        check: impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Load {
        let check: Check = Box::new(check);
        let shared = Arc::new(Shared { ended: false.into(), sent: 0.into(), check });
        let ours = shared.clone();
        let thread = thread::spawn(move || {
            block_on(async move {
                let drive = |lane| tokio::spawn(drive(lane, ours.clone()));
                let tasks: Vec<_> = lanes.into_iter().map(drive).collect();
                let mut outcomes = Vec::new();
                for task in tasks {
                    outcomes.push(task.await.unwrap());
                }
                outcomes
            })
        });
        Load { shared, thread }
    }

    /// Requests that have been answered or failed so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Waits until `count` more have been answered.
    pub fn wait_for(&self, count: u64) {
        let (before, started) = (self.sent(), Instant::now());
        while self.sent() < before + count {
            assert!(started.elapsed() < PATIENCE, "the load stands still");
            thread::sleep(BEAT);
        }
    }

    /// Ends the load after the requests that are under way.
    pub fn end(self) -> Outcome {
        self.shared.ended.store(true, Ordering::Relaxed);
        let mut all = Outcome::default();
        for outcome in self.thread.join().unwrap() {
            all.sent += outcome.sent;
            all.failed += outcome.failed;
            all.failures.extend(outcome.failures);
            all.times.extend(outcome.times);
        }
        all
    }
}

impl Outcome {
    /// The time within which 99 of 100 requests were answered.
    pub fn p99(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() * 99 / 100).copied().unwrap_or_default()
    }

    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.failed, 0, "of {}: {:#?}", self.sent, self.failures);
        assert!(self.sent > 0);
    }
}

async fn drive(lane: Lane, shared: Arc<Shared>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept = None;
    while !shared.ended.load(Ordering::Relaxed) {
        beat.tick().await;
        let began = Instant::now();
        let answered = match timeout(PATIENCE, exchange(&lane, &mut kept)).await {
            Ok(answered) => answered.map_err(describe),
            Err(_) => Err("no answer".to_owned()),
        };
        outcome.times.push(began.elapsed());
        outcome.sent += 1;
        shared.sent.fetch_add(1, Ordering::Relaxed);
        if let Err(problem) = answered.and_then(|answer| (shared.check)(&answer)) {
            kept = None;
            outcome.failed += 1;
            if outcome.failures.len() < WORDS {
                let number = outcome.sent;
                outcome.failures.push(format!(
                    "{:?} {:?}, request {number}: {problem}",
                    lane.protocol, lane.connections
                ));
            }
        }
    }
    outcome
}

async fn exchange(lane: &Lane, kept: &mut Option<Client>) -> Result<Answer, Error> {
    let known = kept.take().filter(|client| !client.is_closed());
    let mut client = match known {
        Some(client) => client,
        None if lane.trusted.is_empty() => Client::connect(lane.address, lane.protocol).await?,
        None => Client::secure(lane.address, lane.protocol, &lane.trusted).await?.0,
    };
    let answer = client.send(get(lane.path)).await?;
    if lane.connections == Connections::Kept {
        *kept = Some(client);
    }
    Ok(answer)
}

/// An error with all its causes.
fn describe(error: Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
