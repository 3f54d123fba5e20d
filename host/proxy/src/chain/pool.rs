//! The instances that exchanges have for themselves (`isolation: EXCLUSIVE`): which are free, whose the others are, and
//! who waits for one. Is told the time and asks no clock; builds no instance and calls no guest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_vm::StreamKey;

use crate::chain::instance::Live;
use crate::services::{Running, Tenancy};
use crate::snapshot::InstanceLimits;

/// Free instances that are kept for as long as the filter runs.
const WARM: usize = 4;
/// How long a free instance beyond those is kept.
const IDLE: Duration = Duration::from_secs(10);
/// How long an instance whose exchange has ended waits for the answers to its callouts.
const LINGER: Duration = Duration::from_secs(60);

/// The instances of one filter on one worker that serve one exchange at a time.
pub struct Pool {
    limits: InstanceLimits,
    members: BTreeMap<u64, Member>,
    /// Free ones, the longest unused first.
    idle: VecDeque<u64>,
    /// In the order in which they came.
    waiting: VecDeque<Waiter>,
    /// What exchanges were given while they waited and have not taken yet.
    granted: Vec<(StreamKey, u64)>,
    /// As many as were needed lately: one that dies is replaced, one that is not needed any more is not.
    target: usize,
    building: bool,
    closed: bool,
    tenancy: Tenancy,
}

struct Member {
    live: Live,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Free since then.
    Idle(Instant),
    /// An exchange has it.
    Busy(StreamKey),
    /// Its exchange ended then; callouts are on the way.
    Lingering(Instant),
    /// It is about to be dropped.
    Ending,
}

struct Waiter {
    key: StreamKey,
    until: Instant,
}

impl Pool {
    /// Without any instance.
    pub fn new(limits: InstanceLimits, running: &Arc<Running>) -> Pool {
        Pool {
            members: BTreeMap::new(),
            idle: VecDeque::new(),
            waiting: VecDeque::new(),
            granted: Vec::new(),
            target: WARM.min(limits.instances),
            building: false,
            closed: false,
            tenancy: Tenancy::new(running),
            limits,
        }
    }

    /// The instance with this number.
    pub fn get(&self, number: u64) -> Option<&Live> {
        self.members.get(&number).map(|member| &member.live)
    }

    /// The instance with this number.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Live> {
        self.members.get_mut(&number).map(|member| &mut member.live)
    }

    /// An instance for an exchange: what it was granted while it waited, or a free one.
    pub fn claim(&mut self, key: StreamKey) -> Option<u64> {
        if let Some(number) = self.take_grant(key) {
            self.tenancy.served();
            return Some(number);
        }
        let number = self.idle.pop_back()?;
        self.set(number, State::Busy(key));
        Some(number)
    }

    /// The exchange waits for an instance, behind those that wait already.
    pub fn wait(&mut self, key: StreamKey, now: Instant) {
        self.waiting.push_back(Waiter { key, until: now + self.limits.wait });
    }

    /// The exchange waits no longer. Whoever gets what it was granted is told of it.
    pub fn leave(&mut self, key: StreamKey, now: Instant) -> Option<StreamKey> {
        if let Some(number) = self.take_grant(key) {
            return self.offer(number, now);
        }
        self.waiting.retain(|waiter| waiter.key != key);
        None
    }

    /// Whether an instance is to be built; the answer yes is given once, until it has been [added](Self::add).
    /// One at a time: no filter keeps the builder from the others.
    pub fn begins_build(&mut self) -> bool {
        let short = self.members.len() < self.target || !self.waiting.is_empty();
        let room = self.members.len() < self.limits.instances;
        let begins = short && room && !self.building && !self.closed;
        self.building |= begins;
        begins
    }

    /// A new instance. The exchange that gets it.
    pub fn add(&mut self, live: Live, now: Instant) -> Option<StreamKey> {
        self.building = false;
        if self.closed {
            return None;
        }
        let number = live.number;
        self.members.insert(number, Member { live, state: State::Ending });
        self.target = self.target.max(self.members.len());
        self.offer(number, now)
    }

    /// The exchange of this instance has ended. The exchange that gets it next.
    pub fn give_back(&mut self, number: u64, now: Instant) -> Option<StreamKey> {
        let member = self.members.get_mut(&number)?;
        if !matches!(member.state, State::Busy(_)) {
            return None;
        }
        if member.live.plugin.outstanding_calls() > 0 {
            member.state = State::Lingering(now);
            return None;
        }
        self.offer(number, now)
    }

    /// A callback of this instance has returned; it may have been the last that it waited for.
    pub fn settle(&mut self, number: u64, now: impl FnOnce() -> Instant) -> Option<StreamKey> {
        let member = self.members.get(&number)?;
        let lingers = matches!(member.state, State::Lingering(_));
        if !lingers || member.live.plugin.outstanding_calls() > 0 {
            return None;
        }
        self.offer(number, now())
    }

    /// Takes an instance out, and the exchange that had it.
    pub fn remove(&mut self, number: u64) -> Option<(Live, Option<StreamKey>)> {
        let Member { live, state } = self.members.remove(&number)?;
        self.idle.retain(|idle| *idle != number);
        self.granted.retain(|(_, granted)| *granted != number);
        let owner = match state {
            State::Busy(key) => Some(key),
            _ => None,
        };
        Some((live, owner))
    }

    /// Who has waited for too long, and does not any more.
    pub fn expired(&mut self, now: Instant) -> Vec<StreamKey> {
        let late = self.waiting.iter().take_while(|waiter| waiter.until <= now).count();
        self.dismiss(late)
    }

    /// A start has failed: everybody who waits, if there is no instance left to wait for, and does not any more.
    pub fn stranded(&mut self) -> Vec<StreamKey> {
        let all = if self.members.is_empty() { self.waiting.len() } else { 0 };
        self.dismiss(all)
    }

    /// What is to be ended: instances that have been free for long, and those whose callouts are not answered.
    pub fn surplus(&mut self, now: Instant) -> Vec<u64> {
        let warm = WARM.min(self.limits.instances);
        let mut ending = Vec::new();
        while self.idle.len() > warm
            && let Some(number) = self.idle.front().copied()
            && self.since(number).is_none_or(|since| now.duration_since(since) >= IDLE)
        {
            self.idle.pop_front();
            ending.push(number);
        }
        ending.extend(self.members.iter().filter_map(|(number, member)| match member.state {
            State::Lingering(since) if now.duration_since(since) >= LINGER => Some(*number),
            _ => None,
        }));
        ending.iter().for_each(|number| self.set(*number, State::Ending));
        self.target = self.target.saturating_sub(ending.len()).max(warm);
        ending
    }

    /// Whether time alone will change something.
    pub fn needs_time(&self) -> bool {
        !self.waiting.is_empty()
            || self.idle.len() > WARM.min(self.limits.instances)
            || self.members.values().any(|member| matches!(member.state, State::Lingering(_)))
    }

    /// Nothing comes in any more. What is to be ended.
    pub fn close(&mut self) -> Vec<u64> {
        self.closed = true;
        self.idle.clear();
        self.members.values_mut().for_each(|member| member.state = State::Ending);
        self.members.keys().copied().collect()
    }

    /// Puts the gauges right.
    pub fn note(&mut self) {
        self.tenancy.note(self.idle.len(), self.waiting.len());
    }

    /// Gives a free instance to whoever has waited longest.
    fn offer(&mut self, number: u64, now: Instant) -> Option<StreamKey> {
        let Some(Waiter { key, .. }) = self.waiting.pop_front() else {
            self.set(number, State::Idle(now));
            self.idle.push_back(number);
            return None;
        };
        self.set(number, State::Busy(key));
        self.granted.push((key, number));
        Some(key)
    }

    fn dismiss(&mut self, count: usize) -> Vec<StreamKey> {
        self.tenancy.expired(count);
        self.waiting.drain(..count).map(|waiter| waiter.key).collect()
    }

    fn take_grant(&mut self, key: StreamKey) -> Option<u64> {
        let at = self.granted.iter().position(|(whose, _)| *whose == key)?;
        Some(self.granted.swap_remove(at).1)
    }

    fn since(&self, number: u64) -> Option<Instant> {
        match self.members.get(&number)?.state {
            State::Idle(since) => Some(since),
            _ => None,
        }
    }

    fn set(&mut self, number: u64, state: State) {
        if let Some(member) = self.members.get_mut(&number) {
            member.state = state;
        }
    }
}
