//! Delays that hold no thread: a heap of due times behind the root context's one timer, and the
//! future that waits in it.
//!
//! It relies on hosts that switch the effective context (Envoy, Istio, ours). The timer runs only
//! while somebody sleeps.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use proxy_wasm::hostcalls;

use crate::host::now;

thread_local! {
    /// The stream that is being polled, and the timer that it may sleep in.
    static POLLED: RefCell<Option<(u32, Timer)>> = const { RefCell::new(None) };
}

/// Holds this request back for `duration` (counted in whole milliseconds, rounded up; the host's
/// timer decides how precisely). Other requests are not affected.
///
/// Only inside [`Filter::request`](crate::Filter::request); elsewhere it is over at once.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { duration, since: None }
}

/// The future of [`sleep`]. Dropping it ends the wait.
#[derive(Debug)]
#[must_use = "a sleep does nothing unless awaited"]
pub struct Sleep {
    duration: Duration,
    since: Option<Duration>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let now = now();
        let since = *self.since.get_or_insert(now);
        // A clock that was set back must not turn a short delay into an endless one.
        let over = now < since || now - since >= self.duration;
        let polled = POLLED.with_borrow(Clone::clone);
        match polled {
            Some((stream, timer)) if !over => {
                timer.add(since.saturating_add(self.duration), stream);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

/// The streams that sleep, and when they are due; clones share one heap.
#[derive(Clone, Default)]
pub(crate) struct Timer(Rc<Inner>);

#[derive(Default)]
struct Inner {
    /// Due time on the host's clock, stream; the earliest on top.
    due: RefCell<BinaryHeap<Reverse<(Duration, u32)>>>,
    /// The due time that the host's timer was last set for.
    armed: Cell<Option<Duration>>,
    /// When the clock was last read here.
    seen: Cell<Duration>,
}

/// Ends the time in which a stream is polled.
pub(crate) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        POLLED.with_borrow_mut(Option::take);
    }
}

impl Timer {
    /// Until the guard is dropped, sleeps belong to this stream.
    pub(crate) fn enter(&self, stream: u32) -> Entered {
        POLLED.set(Some((stream, self.clone())));
        Entered
    }

    fn add(&self, due: Duration, stream: u32) {
        self.0.due.borrow_mut().push(Reverse((due, stream)));
    }

    /// Takes the streams whose time has come, earliest first.
    pub(crate) fn fired(&self) -> Vec<u32> {
        self.0.armed.set(None);
        let now = now();
        let set_back = now < self.0.seen.replace(now);
        let mut due = self.0.due.borrow_mut();
        let mut fired = Vec::new();
        while let Some(Reverse((time, stream))) = due.peek().copied()
            && (time <= now || set_back)
        {
            due.pop();
            fired.push(stream);
        }
        fired
    }

    /// Sets the host's timer for the earliest sleeper, or stops it where there is none.
    pub(crate) fn arm(&self) {
        let next = self.0.due.borrow().peek().map(|Reverse((time, _))| *time);
        let Some(next) = next else {
            let _ = hostcalls::set_tick_period(Duration::ZERO);
            return;
        };
        if self.0.armed.get().is_some_and(|armed| armed <= next) {
            return;
        }
        let now = now();
        self.0.seen.set(now);
        self.0.armed.set(Some(next));
        let wait = next.saturating_sub(now).as_nanos().div_ceil(1_000_000);
        let wait = u64::try_from(wait).unwrap_or(u64::MAX).clamp(1, i32::MAX as u64);
        let _ = hostcalls::set_tick_period(Duration::from_millis(wait));
    }
}
