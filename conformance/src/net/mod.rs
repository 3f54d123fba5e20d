//! The network around a host: clients in front, servers behind.

mod bodies;
mod client;
mod server;
mod tcp;

pub use bodies::{Seen, Waiter};
pub use client::{Received, get, send};
pub use server::{Recorded, Servers};
pub use tcp::{connect, talk};

use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
