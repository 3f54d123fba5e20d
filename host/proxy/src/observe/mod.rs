//! What others can see of us: metrics, the access log, the state of every filter.
//!
//! Nothing here decides anything about an exchange, waits for one, or blocks a worker: counters are atomic, log lines
//! leave through bounded queues, and what finds a queue full is dropped and counted.

mod access_log;
mod conditions;
mod references;
mod status;
mod counts;
mod guests;
mod naming;
pub mod families;
mod metrics;
mod sink;
mod time;

pub use access_log::AccessLogger;
pub use counts::{RequestCounts, TcpCounts};
pub use guests::Guests;
pub use metrics::{Counter, Family, Gauge, Histogram, Registry};
pub use sink::{Capacity, Entry, Sink, Target};
pub use status::{
    FilterHealth, FilterState, FilterStatus, FilterView, GenerationStatus, LastTrap,
    ListenerStatus, PoolStatus, SharedUse, Status,
};
pub use time::rfc3339;
