//! Everybody else: clients of a second listener of the same worker, whose filter and upstream do what they should. Each
//! answer is looked at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use crate::case::{Client, Exchange, Field};
use crate::host::PATIENCE;
use crate::net::{Waiter, send};
use crate::verdict;

/// The filter that they pass: marks each response.
pub const FILTER: &str = r#"(module
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x-bystander")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (drop (call $add (i32.const 2) (i32.const 0) (i32.const 11) (i32.const 2) (i32.const 9)))
    (i32.const 0)))"#;
/// What their upstream answers.
pub const ANSWER: &str = "untouched";

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(2);
/// Between two looks at the count.
const LOOK: Duration = Duration::from_millis(1);

/// A client that goes on until it is dropped.
pub struct Others {
    state: Arc<State>,
    client: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    served: AtomicUsize,
    ended: AtomicBool,
    problem: Mutex<Option<String>>,
}

impl Others {
    /// Begins to send.
    pub fn start(address: SocketAddr) -> Others {
        let state = Arc::new(State::default());
        let ours = state.clone();
        let client = thread::spawn(move || {
            if let Err(error) = go_on(address, &ours) {
                *ours.problem.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(format!("{error:#}"));
            }
        });
        Others { state, client: Some(client) }
    }

    /// Waits until so many more have been served.
    ///
    /// # Errors
    /// One was not served as it should be, or none is served any more.
    pub fn wait_for(&self, count: usize) -> Result<()> {
        let until = self.served() + count;
        let (mut last, mut since) = (self.served(), Instant::now());
        while last < until {
            let problem = self.state.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(problem) = problem {
                return Err(anyhow!("others: {problem}"));
            }
            ensure!(since.elapsed() < PATIENCE, "others are not served any more");
            thread::sleep(LOOK);
            if self.served() > last {
                (last, since) = (self.served(), Instant::now());
            }
        }
        Ok(())
    }

    fn served(&self) -> usize {
        self.state.served.load(Ordering::Relaxed)
    }
}

/// No request here waits for a line of the log.
pub fn no_waiter() -> Waiter {
    Arc::new(|_| false)
}

impl Drop for Others {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        if let Some(client) = self.client.take() {
            let _has_said_what_was_wrong = client.join();
        }
    }
}

fn go_on(address: SocketAddr, state: &State) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let marked = ("x-bystander".to_owned(), Field::Value("bystander".to_owned()));
    let request = Exchange {
        client: Client {
            status: Some(200),
            headers: BTreeMap::from([marked]),
            body: Some(ANSWER.to_owned()),
            ..Client::default()
        },
        ..Exchange::default()
    };
    while !state.ended.load(Ordering::Relaxed) {
        let received = runtime.block_on(send(address, &request, &no_waiter()))?;
        let mut problems = Vec::new();
        verdict::client(&request.client, &received, &mut problems);
        ensure!(problems.is_empty(), "{}", problems.join("; "));
        state.served.fetch_add(1, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
    Ok(())
}
