//! What calls the root context of a filter: its timers and its queues.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use portcullis_vm::{Plugin, Streams, Trap};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::chain::instance::Timer;
use crate::chain::slot::{Gone, Slot};

/// Shortest period of a guest's timer: whatever a tick costs, a worker has at least this long for other work between two.
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// Callbacks of a guest that may hold a body, or the bytes of a connection.
const HOLDING: [&str; 4] = [
    "proxy_on_request_body",
    "proxy_on_response_body",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
];
/// What ticks have taken before the timers rest: less is not worth a sleep, which is as long at the least.
const TURN: Duration = Duration::from_millis(1);

impl Slot {
    /// Calls the guest in the instance with this number again and again; zero: not any more.
    pub(super) fn timer(self: &Rc<Slot>, period: Duration, number: u64) -> Option<Timer> {
        if period.is_zero() {
            return None;
        }
        let period = period.max(SHORTEST_TICK);
        let weak = Rc::downgrade(self);
        let task = self.local.spawn(async move {
            loop {
                sleep(period).await;
                while let Some(rest) =
                    weak.upgrade().and_then(|slot| slot.pace.rest(Instant::now()))
                {
                    sleep(rest).await;
                }
                let Some(slot) = weak.upgrade() else { return };
                let began = Instant::now();
                let ticked = slot.call_root(number, |plugin, streams| plugin.tick(streams));
                slot.pace.worked(began, Instant::now());
                if ticked.is_err() {
                    return;
                }
            }
        });
        task.map(Timer)
    }

    /// Tells the guest of what arrives in its queues, from now on.
    pub(super) fn watch_queues(self: &Rc<Slot>) {
        let weak = Rc::downgrade(self);
        let inbox = self.world.inbox.clone();
        let task = self.local.spawn(async move {
            loop {
                inbox.arrived.notified().await;
                while let Some(slot) = weak.upgrade()
                    && slot.tell_of_queue()
                {
                    drop(slot);
                    // A guest may put back more than it takes.
                    yield_now().await;
                }
            }
        });
        *self.queue_watch.borrow_mut() = task.map(Timer);
    }

    /// Tells the guest of one element in its queues, if there is one. Without an instance it waits for one.
    fn tell_of_queue(self: &Rc<Slot>) -> bool {
        let Some(number) = self.shared_number() else {
            self.share_queues();
            return false;
        };
        let Some(queue) = self.world.inbox.next() else { return false };
        self.call_root(number, |plugin, streams| plugin.queue_ready(streams, queue)).is_ok()
    }

    /// Runs a callback of the root context, which may turn to any exchange that waits, and to what it holds of it.
    fn call_root(
        self: &Rc<Slot>,
        number: u64,
        run: impl FnOnce(&mut Plugin, &mut Streams) -> Result<(), Trap>,
    ) -> Result<(), Gone> {
        match self.exports(&HOLDING) {
            true => self.local.with_all_held(self.id, || self.call(number, run)),
            false => self.call(number, run),
        }
    }
}

/// The timers of all instances of a filter together: they rest for as long as they have worked, however many they are.
#[derive(Debug, Default)]
pub struct Pace {
    worked: Cell<Duration>,
    rest_until: Cell<Option<Instant>>,
}

impl Pace {
    /// How long no timer may be called.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let left = self.rest_until.get()?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A timer has been called.
    fn worked(&self, began: Instant, now: Instant) {
        let worked = self.worked.get() + now.duration_since(began);
        let rests = worked >= TURN;
        self.worked.set(if rests { Duration::ZERO } else { worked });
        if rests {
            self.rest_until.set(Some(now + worked));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Pace;

    #[test]
    fn timers_rest_for_as_long_as_all_of_them_have_worked() {
        let (pace, start) = (Pace::default(), Instant::now());
        let at = |microseconds| start + Duration::from_micros(microseconds);
        pace.worked(at(0), at(600));
        assert_eq!(pace.rest(at(600)), None);
        pace.worked(at(600), at(1200));
        assert_eq!(pace.rest(at(1200)), Some(Duration::from_micros(1200)));
        assert_eq!(pace.rest(at(2400)), None);
        pace.worked(at(2400), at(2900));
        assert_eq!(pace.rest(at(2900)), None);
    }
}
