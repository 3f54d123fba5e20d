//! The time. A request wants to know it at eight steps, and asking at each would be a fiftieth of what it costs: a task that
//! serves a connection asks once each time it is polled, and again when something has taken long.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

/// How long the wall clock is taken to go on as it did: what has set it is seen then.
const TRUST: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
enum Reading {
    /// Outside of [`hold`]: every answer is new.
    Loose,
    /// The answer, once somebody has asked.
    Held(Option<Instant>),
}

thread_local! {
    static READING: Cell<Reading> = const { Cell::new(Reading::Loose) };
    /// The same moment on both clocks.
    static WALL: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
}

/// The time, at the most as old as the poll that is under way.
pub fn now() -> Instant {
    match READING.get() {
        Reading::Loose => Instant::now(),
        Reading::Held(Some(now)) => now,
        Reading::Held(None) => {
            let now = Instant::now();
            READING.set(Reading::Held(Some(now)));
            now
        }
    }
}

/// What has been done since the last answer may have taken long.
pub fn moved_on() {
    if matches!(READING.get(), Reading::Held(Some(_))) {
        READING.set(Reading::Held(None));
    }
}

/// What the wall clock says at a moment.
pub fn wall(at: Instant) -> SystemTime {
    if let Some((noted, wall)) = WALL.get()
        && let Some(since) = at.checked_duration_since(noted)
        && since < TRUST
    {
        return wall + since;
    }
    let wall = SystemTime::now();
    WALL.set(Some((at, wall)));
    wall
}

/// Polls a task, for which time stands still meanwhile.
pub fn hold<T>(poll: impl FnOnce() -> T) -> T {
    /// Also when the task panics.
    struct Loosen;
    impl Drop for Loosen {
        fn drop(&mut self) {
            READING.set(Reading::Loose);
        }
    }
    READING.set(Reading::Held(None));
    let _loosen = Loosen;
    poll()
}
