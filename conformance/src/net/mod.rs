//! The network around a host: clients in front, servers behind.

mod bodies;
mod client;
mod server;

pub use bodies::{Seen, Waiter};
pub use client::{Received, get, send};
pub use server::{Recorded, Servers};
