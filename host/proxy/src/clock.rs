//! The clock of one client connection: since when a request's head is on its way, since when nothing is, and when the
//! request that is being answered is late.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::{Sleep, sleep, sleep_until};

use crate::snapshot::Limits;

/// Shared by the connection's bytes, its requests and its timer; all on one thread.
#[derive(Debug)]
pub struct Watch {
    epoch: Instant,
    /// Milliseconds after `epoch`, plus one; 0: no head is on its way.
    head_since: AtomicU64,
    /// Milliseconds after `epoch`.
    idle_since: AtomicU64,
    in_flight: AtomicUsize,
    /// A request has begun; for the one who waits for it.
    begun: Notify,
}

/// What a connection has run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Time to send a head.
    Head,
    /// Time to do nothing.
    Idle,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            epoch: Instant::now(),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            begun: Notify::new(),
        }
    }
}

impl Watch {
    /// Bytes have arrived: outside a request they begin the next head.
    pub fn bytes_arrived(&self) {
        if self.in_flight.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == 0
        {
            self.head_since.store(self.millis(Instant::now()) + 1, Ordering::Relaxed);
        }
    }

    /// How long nothing runs out, or what has.
    fn check(&self, limits: &Limits) -> Result<Duration, Expiry> {
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return Ok(limits.request_header_timeout);
        }
        let (since, limit, expiry) = match self.head_since.load(Ordering::Relaxed) {
            0 => (self.idle_since.load(Ordering::Relaxed), limits.idle_timeout, Expiry::Idle),
            since => (since - 1, limits.request_header_timeout, Expiry::Head),
        };
        let left = (Duration::from_millis(since) + limit).saturating_sub(self.epoch.elapsed());
        match left {
            Duration::ZERO => Err(expiry),
            // While the connection is idle a head may begin at any moment.
            left => Ok(left.min(limits.request_header_timeout)),
        }
    }

    /// Waits until something has run out.
    pub async fn expired(&self, limits: &Limits) -> Expiry {
        let mut clock = pin!(sleep(limits.request_header_timeout.min(limits.idle_timeout)));
        loop {
            clock.as_mut().await;
            match self.check(limits) {
                Ok(wait) => clock.as_mut().reset(tokio::time::Instant::now() + wait),
                Err(expiry) => return expiry,
            }
        }
    }

    /// Waits until a request has begun; at once if one had before. For one waiter.
    pub async fn request_begun(&self) {
        self.begun.notified().await;
    }

    /// Waits until no part of a request's head is on its way.
    pub async fn head_complete(&self) {
        while self.head_since.load(Ordering::Relaxed) != 0 {
            self.begun.notified().await;
        }
    }

    /// What has begun to arrive is no head of a request.
    pub fn head_over(&self) {
        self.head_since.store(0, Ordering::Relaxed);
        self.restart();
        self.begun.notify_one();
    }

    /// The time of doing nothing begins anew.
    pub fn restart(&self) {
        self.idle_from(Instant::now());
    }

    fn idle_from(&self, at: Instant) {
        self.idle_since.store(self.millis(at), Ordering::Relaxed);
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1)
    }
}

/// A request in flight: from its head to the end of its response.
#[derive(Debug)]
pub struct InFlight {
    watch: Arc<Watch>,
    /// When it ended, if somebody knows.
    ended: Option<Instant>,
}

impl InFlight {
    /// The head is complete.
    pub fn begin(watch: &Arc<Watch>) -> InFlight {
        watch.head_since.store(0, Ordering::Relaxed);
        watch.in_flight.fetch_add(1, Ordering::Relaxed);
        watch.begun.notify_one();
        InFlight { watch: watch.clone(), ended: None }
    }

    /// It has ended just now: nobody has to ask for the time again.
    pub fn end(mut self, now: Instant) {
        self.ended = Some(now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.watch.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.watch.idle_from(self.ended.unwrap_or_else(Instant::now));
    }
}

/// Wakes those who wait for deadlines, one after the other. A timer costs as much as routing a request, and hardly any request
/// needs its own to the end: one that is set goes on for the next, whose deadline comes later.
#[derive(Debug, Default)]
pub struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    woken: Option<Waker>,
}

impl Alarm {
    /// Whether the deadline is over; if not, the task is woken then, and maybe before.
    pub fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let is_set = self
            .timer
            .as_ref()
            .is_some_and(|timer| !timer.is_elapsed() && timer.deadline().into_std() <= deadline);
        let is_woken = self.woken.as_ref().is_some_and(|woken| woken.will_wake(context.waker()));
        if is_set && is_woken {
            return Poll::Pending;
        }
        if deadline <= Instant::now() {
            return Poll::Ready(());
        }
        self.woken = Some(context.waker().clone());
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
        if !is_set {
            timer.as_mut().reset(deadline.into());
        }
        // Outside of the budget that tokio gives a task: a timer that was not asked wakes nobody.
        pin!(unconstrained(timer.as_mut())).poll(context)
    }
}
