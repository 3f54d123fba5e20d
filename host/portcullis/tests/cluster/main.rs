//! The program on a real Kubernetes API server. Slow to build where nothing is cached, hence no part of a plain `cargo test`:
//! `cargo test -p portcullis --test cluster -- --nocapture`. Go is needed; without it everything here is skipped, unless
//! `CI` is set.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod api;
mod cluster;
mod deploy;
#[path = "../../../guests.rs"]
mod frame;
mod outage;
mod process;
#[path = "../it/program.rs"]
#[allow(dead_code, reason = "the tests on folders use more of it")]
mod program;
#[allow(dead_code, reason = "the tests on registries use more of it")]
mod registry;
mod rights;
mod scale;
mod secrets;
mod server;
mod sidecar;
mod status;
mod stories;
#[path = "../it/tls.rs"]
#[allow(dead_code, reason = "the tests on the program use more of it")]
mod tls;
