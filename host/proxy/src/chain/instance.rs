//! One started instance of a filter on a worker, with what dies when it does: its timer, and its share of the gauges.

use std::rc::Rc;
use std::sync::Arc;

use portcullis_vm::{Plugin, Streams};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::services::Running;

/// A started instance.
pub struct Live {
    /// The guest in it.
    pub plugin: Plugin,
    /// Names it within its slot, for ever.
    pub number: u64,
    /// Calls the guest's timer.
    pub timer: Option<Timer>,
    /// The guest has put off its end, and is ready for it now.
    pub done: Rc<Notify>,
    share: Share,
}

impl Live {
    /// Counts the instance from now on.
    pub fn new(plugin: Plugin, number: u64, running: &Arc<Running>) -> Live {
        running.instances.add(1);
        let share = Share { running: running.clone(), memory: 0 };
        let mut live = Live { plugin, number, timer: None, done: Rc::default(), share };
        live.note_memory();
        live
    }

    /// Keeps the gauge at the sum of all instances.
    pub fn note_memory(&mut self) {
        let now = self.plugin.memory_bytes();
        if now != self.share.memory {
            self.share.running.memory.add(signed(now) - signed(self.share.memory));
            self.share.memory = now;
        }
    }

    /// The last callbacks of the root context.
    pub fn delete(self, streams: &mut Streams) {
        let Live { plugin, timer, share, .. } = self;
        drop(timer);
        plugin.delete(streams);
        drop(share);
    }
}

/// What an instance adds to the gauges of its filter, for as long as it exists.
struct Share {
    running: Arc<Running>,
    memory: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.running.memory.add(-signed(self.memory));
        self.running.instances.add(-1);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A task that ends when this is dropped.
pub struct Timer(pub AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}
