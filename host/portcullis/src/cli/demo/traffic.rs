//! Steady traffic that counts every request and every failure: clients that keep their connection, and clients that
//! open a new one for each request. Nobody retries.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::http::{Connection, Message};

const PAUSE: Duration = Duration::from_millis(2);
const USERS: u64 = 1000;
const SHOWN_FAILURES: usize = 5;

/// What the traffic has seen so far.
#[derive(Default)]
pub struct Tally {
    sent: AtomicU64,
    failed: AtomicU64,
    versions: Mutex<BTreeMap<String, u64>>,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    /// Requests that were answered as they should be, or not.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Requests without the answer they should have got.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The first failures, in words.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which version answered how often since this was asked last.
    pub fn take_versions(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.versions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, answer: io::Result<Message>) -> bool {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let version = answer.map_err(|error| error.to_string()).and_then(|answer| version(&answer));
        match version {
            Ok(version) => {
                let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
                *versions.entry(version).or_default() += 1;
                true
            }
            Err(failure) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                if failures.len() < SHOWN_FAILURES {
                    failures.push(failure);
                }
                false
            }
        }
    }
}

/// Which version of the application answered.
///
/// # Errors
/// The answer is not the application's, in words.
pub fn version(answer: &Message) -> Result<String, String> {
    let body: Option<Value> = serde_json::from_str(&answer.body).ok();
    let version = body.as_ref().and_then(|body| body.get("version")).and_then(Value::as_str);
    match (answer.status(), version) {
        (200, Some(version)) => Ok(version.to_owned()),
        (status, _) => Err(format!("status {status}: {}", answer.body.trim())),
    }
}

/// The name of a user, for `x-user`.
pub fn user(number: u64) -> String {
    format!("user-{:04}", number % USERS)
}

/// Running clients. They stop when this is dropped, or with [`Traffic::stop`].
pub struct Traffic {
    tally: Arc<Tally>,
    end: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts clients of both kinds.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(proxy: SocketAddr, keeping: u64, reopening: u64) -> io::Result<Traffic> {
        let mut traffic =
            Traffic { tally: Arc::default(), end: Arc::default(), clients: Vec::new() };
        for client in 0..keeping + reopening {
            let (tally, end) = (traffic.tally.clone(), traffic.end.clone());
            let keeps = client < keeping;
            let run = move || {
                let mut connection = None;
                let mut number = client * 101;
                while !end.load(Ordering::Relaxed) {
                    let answer = ask(&mut connection, proxy, number);
                    if !tally.count(answer) || !keeps {
                        connection = None;
                    }
                    number += 1;
                    thread::sleep(PAUSE);
                }
            };
            let thread = thread::Builder::new().name(format!("client-{client}"));
            traffic.clients.push(thread.spawn(run)?);
        }
        Ok(traffic)
    }

    /// What the clients have seen so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Waits for the last answers.
    pub fn stop(mut self) -> Arc<Tally> {
        self.end.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // A client that panicked has not counted its request; its thread has said so.
            let _ = client.join();
        }
        self.tally.clone()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// A keep-alive connection that the proxy closed between two requests, announced by `connection: close`, is opened
/// again; that is no retry.
fn ask(connection: &mut Option<Connection>, proxy: SocketAddr, number: u64) -> io::Result<Message> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(proxy)?,
    };
    let answer = open.get("/reviews/1", &[("x-user", &user(number))])?;
    if answer.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")) {
        *connection = Some(open);
    }
    Ok(answer)
}
