//! Instances in the place of those that died: built by the builder's thread, after a pause, until one starts or nobody wants the
//! filter any more.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use portcullis_vm::{Plugin, Trap};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::chain::local::Signal;
use crate::chain::slot::Slot;
use crate::services::Replacing;

/// Shortest wait before an instance that died is built again after its successor failed to start.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

impl Slot {
    /// Has a new instance built after a pause, and takes it into service.
    pub(super) fn replace(self: &Rc<Slot>, pause: Duration) {
        if self.is_retired() {
            return;
        }
        self.replacing.set(true);
        self.rebuild(pause, Replacing::begin(&self.world.running));
    }

    fn rebuild(self: &Rc<Slot>, pause: Duration, replacing: Replacing) {
        self.build(pause, move |slot, built| match built {
            Ok(plugin) => {
                drop(replacing);
                slot.install(plugin);
            }
            Err(trap) => {
                let pause = slot.failed_start(&trap);
                if slot.pool.is_none() {
                    slot.local.post_all(|| Signal::Unready(slot.id));
                }
                slot.rebuild(pause, replacing);
            }
        });
    }

    /// Has an instance built after a pause. By then the filter may be gone, or on its way out.
    pub(super) fn build(
        self: &Rc<Slot>,
        pause: Duration,
        then: impl FnOnce(Rc<Slot>, Result<Plugin, Trap>) + 'static,
    ) {
        let weak = Rc::downgrade(self);
        let (filter, world, builder) =
            (self.filter.clone(), self.world.clone(), self.builder.clone());
        self.local.spawn(async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            if weak.strong_count() == 0 {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            builder.build(filter, world.services(), move |built| drop(sender.send(built)));
            if let (Ok(built), Some(slot)) = (receiver.await, weak.upgrade())
                && !slot.is_retired()
            {
                then(slot, built);
            }
        });
    }

    /// An instance could not be started. How long to wait before the next attempt.
    pub(super) fn failed_start(&self, trap: &Trap) -> Duration {
        tracing::error!(filter = %self.filter.name, "filter could not be started again: {trap}");
        let health = &self.world.running.health;
        let pause = health.record_trap(trap, Instant::now(), SystemTime::now());
        pause.unwrap_or_default().max(RESTART_PAUSE)
    }
}
