//! Ring 2: the data plane. Takes immutable [`Snapshot`]s, serves traffic with them, and swaps one for the next without
//! dropping a request.
//!
//! Nothing here reads a file, parses a document or knows of Kubernetes. The modules below stand in the order in which a
//! request meets them, and a module may import only modules declared below it (`tests/it/layers.rs`).

mod worker;
mod serve;
mod exchange;
mod tcp;
mod generation;
mod chain;
mod services;
pub mod route;
pub mod upstream;
pub mod reply;
pub mod observe;
pub mod facts;
mod clock;
pub mod snapshot;
mod http1;
mod wire;
pub mod tls;
pub mod message;
mod body;
mod now;
mod error;

pub use body::{Body, BodyError};
pub use error::{Refusal, TlsError};
pub use snapshot::Snapshot;
pub use worker::{Options, Proxy};
