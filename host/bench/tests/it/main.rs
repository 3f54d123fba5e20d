//! What holds of the measuring program without measuring: what it reads, how it judges, what it writes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod changes;
mod configurations;
mod counts;
mod curves;
mod generators;
mod layers;
mod programs;
mod tables;
