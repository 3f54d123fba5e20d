//! Filters of every shape against the mock host, through the doors that authors use.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod config;
mod flow;
mod head;
mod layers;
