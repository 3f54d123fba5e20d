//! What a connection costs that waits: the proxy's memory before and after so many of them have had one answer each.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::figures::Metric;
use crate::measure;
use crate::proof::expected;
use crate::scenario::PeerName;
use crate::waiting::{ask, is_closed};

use super::round::{Round, Rounds};

/// After the last answer.
const SETTLE: Duration = Duration::from_millis(200);

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
