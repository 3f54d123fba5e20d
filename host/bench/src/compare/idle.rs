//! What a connection costs that waits: the proxy's memory before and after so many of them have had one answer each.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::figures::Metric;
use crate::measure;
use crate::proof::expected;
use crate::scenario::PeerName;

use super::round::{Round, Rounds};

/// After the last answer.
const SETTLE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);

/// A round on a proxy of its own, so that nothing is there from the one before.
pub(super) fn round(turn: &Rounds, peer: PeerName, connections: u32) -> Result<Round> {
    let program = turn.bench.program(peer).context("no such program")?;
    let peer = program.start(turn.scenario, turn.stage)?;
    let right = expected(turn.scenario, peer.name, turn.stage.upstream)?;
    // The first request makes whatever is made once.
    let first = ask(peer.address, &right.body)?;
    thread::sleep(SETTLE);
    let before = measure::memory(peer.id())?;
    let counted = peer.requests()?;
    let mut waiting = vec![first];
    for number in 0..connections {
        let asked = ask(peer.address, &right.body);
        waiting.push(asked.with_context(|| format!("connection {number} of {connections}"))?);
    }
    thread::sleep(SETTLE);
    let after = measure::memory(peer.id())?;
    let counted = peer.requests()? - counted;
    ensure!(counted == u64::from(connections), "{connections} requests sent, {counted} counted");
    let grown = after.resident as f64 - before.resident as f64;
    let closed = waiting.iter().filter(|connection| is_closed(connection)).count();
    ensure!(closed == 0, "{closed} of {connections} idle connections were closed");
    Ok(Round::from([
        (Metric::KibPerConnection, grown / f64::from(connections)),
        (Metric::ResidentMib, after.resident as f64 / 1024.0),
        (Metric::FileMib, after.file as f64 / 1024.0),
    ]))
}

/// Connects, asks once and reads the answer; the connection stays open.
fn ask(address: SocketAddr, body: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.ends_with(body) {
        let read = stream.read(&mut piece)?;
        ensure!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..read]);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
    Ok(stream)
}

fn is_closed(stream: &TcpStream) -> bool {
    let nothing_yet = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    stream.set_nonblocking(true).is_err()
        || stream.peek(&mut [0]).map_or_else(|error| !nothing_yet(error), |read| read == 0)
}
