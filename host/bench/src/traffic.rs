//! Load by this program itself, on a thread of its own: a few connections that ask one after the other all the time, notice which
//! release of a filter answered, and count what failed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::net::{self, Connection, PLAIN};

/// Between two requests of a connection: what a time may be off by.
const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(20);
/// Says which release of a filter answered.
const HEADER: &str = "x-release";

/// What was asked and answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers with status 200.
    pub answers: u64,
    /// Everything else.
    pub failures: u64,
    /// The first of these.
    pub first_failure: Option<String>,
}

/// A connection had another release than before.
struct Sighting {
    connection: usize,
    release: String,
    at: Instant,
}

/// Load at work.
#[derive(Debug)]
pub struct Traffic {
    seen: Vec<String>,
    sightings: Receiver<Sighting>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Tally>,
}

impl std::fmt::Debug for Sighting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.release, self.connection)
    }
}

impl Traffic {
    /// Begins. With more than a dozen connections every worker of a proxy with two has some: the system spreads them.
    ///
    /// # Errors
    /// No thread.
    pub fn start(address: SocketAddr, connections: usize) -> Result<Traffic> {
        let (sender, sightings) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let runtime = net::runtime()?;
        let load = move || {
            runtime.block_on(async {
                let client = |connection| {
                    let client = Client { address, connection, sightings: sender.clone() };
                    tokio::spawn(client.ask(stopped.clone()))
                };
                let clients: Vec<_> = (0..connections).map(client).collect();
                let mut all = Tally::default();
                for client in clients {
                    all.add(client.await.unwrap_or_else(|error| Tally::failure(&error.into())));
                }
                all
            })
        };
        let thread = thread::Builder::new().name("traffic".to_owned()).spawn(load)?;
        Ok(Traffic { seen: vec![String::new(); connections], sightings, stop, thread })
    }

    /// Waits until every connection has had an answer of this release; when the last one had.
    ///
    /// # Errors
    /// Not in time.
    pub fn until_everywhere(&mut self, release: u32) -> Result<Instant> {
        let release = release.to_string();
        let mut last = Instant::now();
        let until = last + PATIENCE;
        while self.seen.iter().any(|seen| *seen != release) {
            let left = until.saturating_duration_since(Instant::now());
            let sighting = self.sightings.recv_timeout(left).ok().with_context(|| {
                format!("release {release} does not answer on every connection: {:?}", self.seen)
            })?;
            last = sighting.at;
            self.seen[sighting.connection] = sighting.release;
        }
        Ok(last)
    }

    /// Ends; what there was.
    ///
    /// # Errors
    /// The thread panicked.
    pub fn finish(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the load panicked"))
    }
}

impl Tally {
    fn failure(error: &anyhow::Error) -> Tally {
        Tally { answers: 0, failures: 1, first_failure: Some(format!("{error:#}")) }
    }

    fn add(&mut self, other: Tally) {
        self.answers += other.answers;
        self.failures += other.failures;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

struct Client {
    address: SocketAddr,
    connection: usize,
    sightings: Sender<Sighting>,
}

impl Client {
    async fn ask(self, stop: Arc<AtomicBool>) -> Tally {
        let mut tally = Tally::default();
        let mut open = None;
        let mut release = None;
        while !stop.load(Ordering::Relaxed) {
            match self.answer(&mut open).await {
                Ok(answered) => {
                    tally.answers += 1;
                    if answered.is_some() && answered != release {
                        release.clone_from(&answered);
                        let release = answered.unwrap_or_default();
                        let (connection, at) = (self.connection, Instant::now());
                        let _nobody_waits =
                            self.sightings.send(Sighting { connection, release, at });
                    }
                }
                Err(error) => {
                    open = None;
                    tally.add(Tally::failure(&error));
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        tally
    }

    /// The release that answers, if any says so.
    async fn answer(&self, open: &mut Option<Connection>) -> Result<Option<String>> {
        let connection = match open {
            Some(connection) => connection,
            None => open.insert(Connection::open(self.address, &PLAIN).await?),
        };
        let answer = connection.get("/", &[]).await?;
        anyhow::ensure!(answer.status == 200, "status {}", answer.status);
        let release = answer.headers.get(HEADER).and_then(|value| value.to_str().ok());
        Ok(release.map(str::to_owned))
    }
}
