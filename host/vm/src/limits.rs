//! What a plugin may use: time for a callback, time to start, memory, buffered body.

use std::time::Duration;

/// Budgets of one plugin instance (`WasmFilter.spec.limits`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Thread CPU time for one callback. Wall time is bounded by 20 times this value.
    pub callback: Duration,
    /// Thread CPU time for start-up and configuration together; wall time is bounded by 20 times this value.
    pub start: Duration,
    /// Bytes of linear memory and tables together.
    pub memory: usize,
    /// Bytes of body that the filter may hold back for one direction of an exchange, inclusive.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            callback: Duration::from_millis(10),
            start: Duration::from_secs(2),
            memory: 64 << 20,
            body: 1 << 20,
        }
    }
}
