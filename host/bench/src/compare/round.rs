//! One round of one proxy: counters read, CPU time read, load and probes, both read again, and everything compared.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use crate::figures::Metric;
use crate::load::{Sample, Target};
use crate::measure::{self, Memory};
use crate::peers::{Peer, Stage};
use crate::place;
use crate::proof::{Counts, Probing, agree, dialect, every, expected};
use crate::scenario::{Load, PeerName, Scenario, Subject};

use super::Bench;

/// What one round measured.
pub(super) type Round = BTreeMap<Metric, f64>;

/// Of a warm-up.
const WARM_UP_SECONDS: u32 = 1;
/// What was under way when the generator ended is over after this.
const SETTLE: Duration = Duration::from_millis(50);
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(250);
const MIB: f64 = 1024.0 * 1024.0;

/// Rounds of one scenario.
pub(super) struct Rounds<'a> {
    pub(super) bench: &'a Bench,
    pub(super) scenario: &'a Scenario,
    pub(super) stage: &'a Stage<'a>,
}

/// All counters at one moment.
struct Counted {
    proxy: u64,
    upstream: u64,
    filters: Option<u64>,
}

/// CPU time: the proxy's own, all of its core's, and how much there was.
struct Work {
    proxy: Duration,
    core: Duration,
    clock: Instant,
    elapsed: Duration,
}

impl Work {
    fn so_far(peer: &Peer) -> Result<Work> {
        let proxy = measure::cpu(peer.id())?;
        let core = measure::busy(place::PROXY_CORE)?;
        Ok(Work { proxy, core, clock: Instant::now(), elapsed: Duration::ZERO })
    }

    fn since(&self, earlier: &Work) -> Work {
        Work {
            proxy: self.proxy.saturating_sub(earlier.proxy),
            core: self.core.saturating_sub(earlier.core),
            clock: self.clock,
            elapsed: self.clock - earlier.clock,
        }
    }

    /// Percent of the time that passed.
    fn share(&self, part: Duration) -> f64 {
        part.as_secs_f64() / self.elapsed.as_secs_f64() * 100.0
    }
}

impl Rounds<'_> {
    fn target(&self, peer: &Peer) -> Target<'_> {
        let certificates = self.stage.certificates;
        Target { address: peer.address, scenario: self.scenario, certificates }
    }

    /// Loads it for a moment; requests a second.
    pub(super) fn warm_up(&self, peer: &Peer, load: Load) -> Result<f64> {
        let sample = self.bench.generators.run(&self.target(peer), load, WARM_UP_SECONDS)?;
        no_failures(&sample)?;
        thread::sleep(SETTLE);
        Ok(sample.requests as f64 / sample.seconds)
    }

    /// A round; `rate` is what the warm-up saw.
    pub(super) fn measure(&self, peer: &Peer, load: Load, rate: f64) -> Result<Round> {
        let (scenario, seconds) = (self.scenario, self.bench.pace.seconds);
        let dialect = dialect(scenario, self.stage.certificates)?;
        let right = expected(scenario, peer.name, self.stage.upstream)?;
        let body = right.body.len();
        let before = self.counted(peer)?;
        let work = Work::so_far(peer)?;
        let probing = Probing::start(peer.address, scenario, dialect, right, every(rate, seconds))?;
        let (sample, memory) = self.loaded(peer, load, seconds)?;
        let probes = probing.finish()?;
        thread::sleep(SETTLE);
        let work = Work::so_far(peer)?.since(&work);
        let after = self.counted(peer)?;
        no_failures(&sample)?;
        agree(&self.counts(peer.name, sample.requests + probes, &before, &after))?;
        let requests = (sample.requests + probes) as f64;
        Ok(self.figures(&sample, requests, &work, memory, body))
    }

    fn figures(
        &self,
        sample: &Sample,
        requests: f64,
        work: &Work,
        memory: Memory,
        body: usize,
    ) -> Round {
        let rate = sample.requests as f64 / sample.seconds;
        let cpu = work.proxy.as_secs_f64();
        let costs = match self.scenario.figure {
            Subject::Requests => {
                [(Metric::CpuUsPerRequest, cpu * 1e6 / requests), (Metric::RequestsPerSecond, rate)]
            }
            Subject::Bytes => {
                let size = body as f64 / MIB;
                [
                    (Metric::CpuMsPerGib, cpu * 1e3 / (requests * size / 1024.0)),
                    (Metric::MibPerSecond, rate * size),
                ]
            }
        };
        let others = [
            (Metric::CorePercent, work.share(work.proxy)),
            (Metric::OthersPercent, work.share(work.core.saturating_sub(work.proxy))),
            (Metric::P50Us, sample.p50),
            (Metric::P99Us, sample.p99),
            (Metric::ResidentMib, memory.resident as f64 / 1024.0),
            (Metric::FileMib, memory.file as f64 / 1024.0),
        ];
        costs.into_iter().chain(others).collect()
    }

    /// Runs the generator, and looks at the memory meanwhile; the most that was seen.
    fn loaded(&self, peer: &Peer, load: Load, seconds: u32) -> Result<(Sample, Memory)> {
        let (stop, stopped) = mpsc::channel::<()>();
        let id = peer.id();
        thread::scope(|scope| {
            let watching = scope.spawn(move || -> Result<Memory> {
                let mut most = Memory::default();
                while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    let now = measure::memory(id)?;
                    most = if now.resident > most.resident { now } else { most };
                }
                Ok(most)
            });
            let sample = self.bench.generators.run(&self.target(peer), load, seconds);
            drop(stop);
            let memory = watching.join().map_err(|_| anyhow!("watching the memory panicked"))?;
            Ok((sample?, memory?))
        })
    }

    fn counted(&self, peer: &Peer) -> Result<Counted> {
        let filters = self.scenario.filters_on(peer.name);
        let filters = filters.map(|filters| peer.filter_count(&filters.counter)).transpose()?;
        Ok(Counted { proxy: peer.requests()?, upstream: self.stage.upstream.requests()?, filters })
    }

    fn counts(&self, peer: PeerName, clients: u64, before: &Counted, after: &Counted) -> Counts {
        let filters_each = self.scenario.filters_on(peer).map_or(0, |filters| filters.count);
        Counts {
            clients,
            proxy: after.proxy - before.proxy,
            upstream: after.upstream - before.upstream,
            upstream_each: self.scenario.upstream_requests(),
            filters: after.filters.zip(before.filters).map(|(after, before)| after - before),
            filters_each: filters_each.into(),
            in_flight: self.scenario.connections.into(),
        }
    }
}

fn no_failures(sample: &Sample) -> Result<()> {
    let Sample { failures, requests, .. } = sample;
    ensure!(*failures == 0, "{failures} requests failed, {requests} were answered");
    ensure!(*requests > 0, "no request was answered");
    Ok(())
}
