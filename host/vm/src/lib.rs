//! Ring 1: runs Proxy-Wasm guests on wasmtime.
//!
//! This crate never opens a socket, has no `async fn` and no clock of its own; what it needs from outside it asks of
//! [`Services`]. A host call only reads state or records an [`Effect`]; the embedder carries effects out after the
//! callback has returned, so that a guest is never re-entered while it is inside a host call.
//!
//! The modules below stand in the order in which an exchange meets them, and a module may import only modules declared
//! below it (`tests/it/layers.rs`).

mod plugin;
mod stream;
mod instance;
mod callbacks;
mod module;
mod cache;
mod hostcalls;
mod guest;
mod effects;
mod services;
mod state;
mod spec;
mod inspect;
mod joint;
mod engine;
mod pulse;
mod phase;
mod expression;
mod attributes;
mod fields;
mod abi;
mod filter_state;
mod buffer;
mod limits;
mod error;

pub use attributes::{
    Attribute, Attributes, ConnectionAttributes, Node, TlsAttributes, UpstreamHost,
};
pub use buffer::Buffer;
pub use cache::Cache;
pub use effects::{
    CallId, ContextId, Effect, GrpcCall, HttpCall, LocalReply, RedisCall, RedisSettings,
};
pub use engine::Engine;
pub use error::{Death, LoadError, Trap, TrapReason};
pub use fields::{Fields, Names, NoFields, Refused};
pub use filter_state::{Declaration, FilterState, PROPERTY_PREFIX, State, StateError, StateKind};
pub use inspect::{
    Abi, Export, Import, Inspection, Origin, Suitability, WrongType, inspect, origin,
};
pub use limits::Limits;
pub use module::{Digest, Module};
pub use phase::{Action, Direction, Peer, Phase, Phases};
pub use plugin::{CallOutcome, GrpcEvent, Plugin};
pub use services::{
    CasMismatch, LogLevel, Metric, MetricKind, QueueError, QueueId, Services, Violation,
};
pub use spec::PluginSpec;
pub use state::{HttpStream, RequestHead, ResponseHead, Stream, StreamKey, Streams, TcpStream};
