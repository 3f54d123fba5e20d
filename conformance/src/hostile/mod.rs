//! Guests that mean harm, one after the other in one process, while others are served by the same worker. Whatever a
//! guest does, the process lives, others get their answers, memory stays bounded, and the verdict is what the table says.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::case::{Answer, Backend, HostName, Piece, Protocol};
use crate::host::Portcullis;
use crate::net::{Servers, send};
use crate::suite::Report;
use crate::verdict;

mod house;
mod others;
mod table;

use house::{Fate, House};
use others::{Others, no_waiter};
pub use table::{Guest, load};

/// Most resident memory of the process while a guest is at work, in MiB. A guest may have 64 MiB, make the host hold as
/// much for its callouts, and share 128 MiB; a debug build without guests takes 70 MiB.
const MOST_MEMORY: u64 = 640;
/// How long what a guest does at the end of an exchange may take to be seen.
const SETTLED: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Runs the guests; a report for each, which `done` gets as it comes.
///
/// # Errors
/// The process could not be started, or did not survive a guest: nothing can be said of those after it.
pub fn run(
    guests: &[Guest],
    portcullis: &Portcullis,
    done: &dyn Fn(&Report),
) -> Result<Vec<Report>> {
    let yard = Yard::open()?;
    let mut house = House::start(portcullis, &yard.addresses)?;
    let others = Others::start(house.others());
    let mut reports = Vec::new();
    for guest in guests {
        let judged = judge(guest, &mut house, &yard, &others);
        let problems = judged.with_context(|| guest.file())?;
        let report =
            Report { case: guest.file(), host: HostName::Portcullis, problems, first_try: None };
        done(&report);
        reports.push(report);
    }
    drop(others);
    house.stop()?;
    Ok(reports)
}

fn judge(guest: &Guest, house: &mut House, yard: &Yard, others: &Others) -> Result<Vec<String>> {
    house.take_peak()?;
    let mut found = Vec::new();
    match (house.admit(guest)?, &guest.refused) {
        (Fate::Refused(code, text), expected) => {
            let says = guest.says.as_deref().unwrap_or_default();
            if expected.as_ref() != Some(&code) || !text.contains(says) {
                found.push(format!("it is refused with {text}"));
            }
        }
        (Fate::Live, Some(code)) => found.push(format!("it is not refused with {code}")),
        (Fate::Live, None) => serve(guest, house, yard, others, &mut found)?,
    }
    others.wait_for(1)?;
    house.expel(guest)?;
    others.wait_for(1)?;
    let peak = house.take_peak()?;
    if peak > MOST_MEMORY {
        found.push(format!("the process came to {peak} MiB"));
    }
    Ok(found)
}

fn serve(
    guest: &Guest,
    house: &mut House,
    yard: &Yard,
    others: &Others,
    found: &mut Vec<String>,
) -> Result<()> {
    let plain = Answer { body: vec![Piece::Text("origin".to_owned())], ..Answer::default() };
    let answer = guest.request.answer.as_ref().unwrap_or(&plain);
    for name in [ORIGIN, house::TRAILERS] {
        yard.servers.set_answer(name, answer);
    }
    yard.forget();
    for at in 1..=guest.times {
        let received = yard.client.block_on(send(house.hostile(), &guest.request, &no_waiter()));
        let recorded = yard.servers.take_recorded(ORIGIN);
        if at == guest.times {
            verdict::client(&guest.request.client, &received?, found);
            if let Some(upstream) = &guest.request.upstream {
                verdict::origin(upstream, &recorded, found);
            }
        }
    }
    others.wait_for(guest.others)?;
    let started = Instant::now();
    loop {
        let differences = differences(guest, house)?;
        if differences.is_empty() {
            return Ok(());
        }
        if started.elapsed() > SETTLED {
            found.extend(differences);
            return Ok(());
        }
        thread::sleep(LOOK);
    }
}

/// What is otherwise in status and metrics.
fn differences(guest: &Guest, house: &House) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let status = house.filter(guest)?;
    let last = &status["lastTrap"];
    match (&guest.trap, &guest.callback) {
        (Some(reason), Some(callback)) => {
            let message = last["message"].as_str().unwrap_or_default();
            if last["reason"] != reason.as_str() || !message.starts_with(callback) {
                found.push(format!("no trap by {reason} in {callback}, but {last}"));
            }
        }
        _ if !last.is_null() => found.push(format!("it traps: {last}")),
        _ => {}
    }
    let counted = house.violations(guest)?;
    if counted != guest.counted {
        found.push(format!("violations of {counted:?} are counted, not of {:?}", guest.counted));
    }
    Ok(found)
}

const ORIGIN: &str = "origin";
/// What guests call.
const APP: &str = "app";
/// What they call and never hear of.
const MUTE: &str = "mute";
/// What speaks HTTP/2, as they think, and does not even read.
const DEAF: &str = "deaf";

/// The servers, on a thread of their own, and a client.
struct Yard {
    servers: Arc<Servers>,
    addresses: Vec<(String, SocketAddr, Protocol)>,
    client: Runtime,
    _deaf: TcpListener,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Yard {
    fn open() -> Result<Yard> {
        let (started, servers) = channel();
        let (end, ended) = oneshot::channel();
        let thread = thread::spawn(move || host_servers(&started, ended));
        let servers = servers.recv().context("the servers do not start")?;
        let addresses = servers.addresses();
        let addresses =
            addresses.map(|(name, address, protocol)| (name.clone(), address, protocol));
        let deaf = TcpListener::bind("127.0.0.1:0")?;
        let deaf_one = (DEAF.to_owned(), deaf.local_addr()?, Protocol::Http2);
        let addresses = addresses.chain([deaf_one]).collect();
        let client = Builder::new_current_thread().enable_all().build()?;
        let (end, thread) = (Some(end), Some(thread));
        Ok(Yard { servers, addresses, client, end, thread, _deaf: deaf })
    }

    /// Drops what was recorded so far.
    fn forget(&self) {
        for name in [ORIGIN, house::TRAILERS, APP, MUTE, house::OTHERS] {
            drop(self.servers.take_recorded(name));
        }
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _nothing_to_say = thread.join();
        }
    }
}

fn host_servers(started: &Sender<Arc<Servers>>, ended: oneshot::Receiver<()>) -> Result<()> {
    let answers =
        |text: &str| Answer { body: vec![Piece::Text(text.to_owned())], ..Answer::default() };
    let backend = |answer| Backend { answer, ..Backend::default() };
    let http2 = Backend { protocol: Protocol::Http2, ..Backend::default() };
    let backends = BTreeMap::from([
        (ORIGIN.to_owned(), Backend::default()),
        (house::TRAILERS.to_owned(), http2),
        (APP.to_owned(), backend(answers("app"))),
        (MUTE.to_owned(), backend(Answer { silent: true, ..Answer::default() })),
        (house::OTHERS.to_owned(), backend(answers(others::ANSWER))),
    ]);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        started.send(Arc::new(Servers::start(&backends).await?))?;
        let _dropped = ended.await;
        Ok(())
    })
}

/// The guests whose names begin so.
///
/// # Errors
/// There is none.
pub fn named(begins: &str) -> Result<Vec<Guest>> {
    let begins = begins.trim_start_matches("hostile/");
    let mut guests = load()?;
    guests.retain(|guest| guest.name.starts_with(begins));
    ensure!(!guests.is_empty(), "no hostile guest begins with {begins}");
    Ok(guests)
}
