//! What the program promises, seen from outside: the built command runs as a child on loopback ports that the system
//! chooses, its folder is edited under traffic, and only sockets, `/status`, `/metrics` and `/proc` are looked at.
//!
//! `PORTCULLIS_SOAK_SECONDS` lengthens what is bounded by time, and then latencies are asserted as well as printed.

mod bodies;
mod clients;
mod containment;
mod documents;
mod guests;
mod isolation;
mod load;
mod memory;
mod one_of_ten;
mod origin;
mod program;
mod swaps;

use std::time::Duration;

/// Nothing on loopback takes so long; what waits for longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to go on with what is bounded by time, and whether that was asked for.
fn soak(otherwise: Duration) -> (Duration, bool) {
    let asked = std::env::var("PORTCULLIS_SOAK_SECONDS").ok();
    match asked.map(|seconds| seconds.parse().expect("PORTCULLIS_SOAK_SECONDS: seconds")) {
        Some(seconds) => (Duration::from_secs(seconds), true),
        None => (otherwise, false),
    }
}
