//! Whether callbacks run, so that who counts time for them can take long pauses while none does. A callback that begins
//! costs one load of what hardly ever changes.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Ticks without a callback after which the pauses become long.
const QUIET_TICKS: u32 = 8;
/// A callback that begins ends the pause. It would go unnoticed only if its thread was stopped, for as long as all of the
/// quiet ticks take, just between saying so and setting its deadline, or the other way round: then this is how much later it
/// is interrupted.
const LONG_PAUSE: Duration = Duration::from_millis(100);

const RUNNING: u8 = 0;
/// No callback has begun or gone on since the last tick.
const QUIET: u8 = 1;
/// A long pause is being taken.
const ASLEEP: u8 = 2;

#[derive(Debug, Default)]
pub(crate) struct Pulse {
    state: AtomicU8,
    /// Ticks in a row that found nothing running.
    quiet: AtomicU32,
    sleepers: Mutex<()>,
    roused: Condvar,
}

impl Pulse {
    /// A callback begins, or goes on beyond a tick.
    #[inline]
    pub(crate) fn beat(&self) {
        if self.state.load(Ordering::Relaxed) != RUNNING {
            self.rouse();
        }
    }

    /// Has ticks counted again.
    #[cold]
    pub(crate) fn rouse(&self) {
        if self.state.swap(RUNNING, Ordering::AcqRel) == ASLEEP {
            // Who is about to sleep holds the lock until it does.
            drop(self.sleepers.lock().unwrap_or_else(PoisonError::into_inner));
            self.roused.notify_all();
        }
    }

    /// Called after each tick. Takes a long pause if there was no callback for some ticks.
    pub(crate) fn rest(&self) {
        if self.change(RUNNING, QUIET) {
            self.quiet.store(0, Ordering::Relaxed);
        } else if self.quiet.fetch_add(1, Ordering::Relaxed) >= QUIET_TICKS {
            self.sleep();
        }
    }

    fn sleep(&self) {
        let sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        self.change(QUIET, ASLEEP);
        let asleep = |_: &mut ()| self.state.load(Ordering::Acquire) == ASLEEP;
        drop(self.roused.wait_timeout_while(sleepers, LONG_PAUSE, asleep));
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
