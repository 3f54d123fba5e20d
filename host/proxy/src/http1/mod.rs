//! HTTP/1 on one connection, from either side (RFC 9112): heads, bodies, and where they end.
//!
//! Whoever waits for a message drives its connection: no task and no queue stands in between, and a connection on which
//! nothing is under way holds no buffer. It never connects, repeats or times anything, and knows nothing of routes and filters.

mod answer;
#[cfg(test)]
mod compared;
mod head;
mod incoming;
mod outgoing;
mod served;
mod start;
mod tunnel;

use std::fmt;

pub use head::{Fault, elements, number};
pub use incoming::{Incoming, Refused};
pub use outgoing::{Failed, Framing, Outgoing, announced, write_field};
pub use served::{RequestBody, Served};
pub use tunnel::Tunnel;

/// Why an exchange cannot go on; so cannot its connection.
#[derive(Clone, Debug)]
pub enum Problem {
    /// The connection, or the body to be sent, broke.
    Broken(String),
    /// What comes in is no HTTP.
    Protocol(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Problem::Broken(reason) | Problem::Protocol(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for Problem {}
