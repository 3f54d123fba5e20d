//! CPU time of callbacks. Costs nothing until the engine's epoch has moved on during a callback; only then is the
//! thread's CPU time asked for, and asked again at each further tick.

use std::time::Duration;

use crate::error::Fault;
use crate::services::Services;

/// Elapsed time may exceed the CPU budget this many times, for threads that are rarely scheduled.
const WALL_FACTOR: u32 = 20;

/// What the running callback may still use.
pub(crate) struct Budget {
    limit: Duration,
    baseline: Option<Times>,
}

#[derive(Clone, Copy)]
struct Times {
    cpu: Duration,
    wall: Duration,
}

impl Budget {
    pub(crate) fn new(limit: Duration) -> Budget {
        Budget { limit, baseline: None }
    }

    /// Starts counting at the first tick from now.
    pub(crate) fn reset(&mut self) {
        self.baseline = None;
    }

    /// Called at each tick of a running callback, and between the parts of a long host call.
    pub(crate) fn check(&mut self, services: &dyn Services) -> Result<(), Fault> {
        let now = Times { cpu: services.thread_cpu_time(), wall: services.monotonic() };
        let Some(start) = self.baseline else {
            self.baseline = Some(now);
            return Ok(());
        };
        if now.cpu.saturating_sub(start.cpu) >= self.limit {
            return Err(Fault::Cpu(self.limit));
        }
        let wall = self.limit.saturating_mul(WALL_FACTOR);
        if now.wall.saturating_sub(start.wall) >= wall {
            return Err(Fault::Wall(wall));
        }
        Ok(())
    }
}
