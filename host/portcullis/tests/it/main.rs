#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod acceptance;
mod admin;
mod check;
mod compiling;
mod control;
mod demo;
mod distribution;
mod examples;
mod explain;
#[path = "../../../guests.rs"]
mod frame;
mod golden;
mod inspect;
mod kubernetes;
mod layers;
mod network;
mod plan;
mod program;
mod publish;
mod reload;
mod run;
mod shipping;
mod signature;
mod source;
mod spec;
mod status;
mod tls;
mod unsupported;
