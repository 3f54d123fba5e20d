//! Measures this proxy beside nginx, HAProxy and Envoy: the same work in the same run, on the same core, and proven to be the same.
//!
//! Black box only: nothing here imports the host; programs are started, loaded and read from outside. Every module imports
//! only what is declared below it.

pub mod cli;
pub mod compare;
pub mod swap;
pub mod grow;
pub mod report;
pub mod chart;
pub mod proof;
pub mod measure;
pub mod load;
pub mod traffic;
pub mod alone;
pub mod peers;
pub mod upstream;
pub mod modules;
pub mod tools;
pub mod scenario;
pub mod figures;
pub mod certificates;
pub mod waiting;
pub mod process;
pub mod template;
pub mod net;
pub mod place;
