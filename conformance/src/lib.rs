//! Holds Portcullis beside a real Envoy: both are started as programs, get the same modules and the same requests, and
//! what they do is compared with what a case says, and with each other.
//!
//! Black box only: nothing here imports the host. Every module imports only what is declared below it.

pub mod mutate;
pub mod hostile;
pub mod h2spec;
pub mod suite;
pub mod table;
pub mod differences;
pub mod matrix;
pub mod verdict;
pub mod play;
pub mod host;
pub mod guests;
pub mod net;
pub mod case;
pub mod place;
