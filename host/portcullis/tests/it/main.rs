#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod admin;
mod control;
mod demo;
mod examples;
mod layers;
mod program;
mod reload;
mod run;
mod source;
mod unsupported;
