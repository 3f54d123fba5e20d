//! Ring 1: runs Proxy-Wasm guests on wasmtime.
//!
//! This crate never opens a socket, has no `async fn` and no clock of its own; what it needs from outside it asks of
//! [`Services`]. A host call only reads state or records an [`Effect`]; the embedder carries effects out after the
//! callback has returned, so that a guest is never re-entered while it is inside a host call.
//!
//! The modules below stand in the order in which an exchange meets them, and a module may import only modules declared
//! below it (`tests/it/layers.rs`).

mod plugin;
mod module;
mod cache;
mod effects;
mod services;
mod state;
mod inspect;
mod engine;
mod attributes;
mod buffer;
mod limits;
mod error;

pub use attributes::{Attribute, Attributes, ConnectionAttributes, TlsAttributes};
pub use buffer::Buffer;
pub use cache::Cache;
pub use effects::{CallId, Direction, Effect, HttpCall, LocalReply};
pub use engine::Engine;
pub use error::{LoadError, Trap, TrapReason};
pub use inspect::{Abi, Import, Inspection, inspect};
pub use limits::Limits;
pub use module::{Digest, Module};
pub use plugin::{Action, CallOutcome, ContextId, Phase, Plugin, PluginSpec};
pub use services::{CasMismatch, LogLevel, Metric, MetricKind, QueueError, QueueId, Services};
pub use state::{HttpStream, RequestHead, ResponseHead, StreamKey, Streams};
