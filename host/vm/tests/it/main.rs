//! Small guests against services that write down what they are asked; one file for each family.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod host;
mod attributes;
mod bodies;
mod budgets;
mod caching;
mod calls;
mod fields;
mod foreign;
mod grpc;
mod headers;
mod joints;
mod layers;
mod lifecycle;
mod loading;
mod pointers;
mod properties;
mod redis;
mod replies;
mod shared;
mod tcp;
mod upstream;
mod wasi;
