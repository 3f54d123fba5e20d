//! Ring 3: the program. Turns documents into snapshots and runs the data plane with them.
//!
//! The modules below stand in the order in which a command meets them, and a module may import only modules declared
//! below it (`tests/it/layers.rs`).

pub mod cli;
pub mod app;
pub mod admin;
pub mod control;
pub mod source;
pub mod fetch;
pub mod cluster;
pub mod plan;
pub mod spec;
pub mod signature;
pub mod diagnose;
pub mod term;
pub mod logging;
pub mod memory;
