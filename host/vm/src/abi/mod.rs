//! The Proxy-Wasm ABI as data: its numbers, the layout of serialized maps, and the type of every function that may
//! stand in a module's imports or exports. Nothing here runs a guest.

pub(crate) mod grpc_service;
pub(crate) mod numbers;
pub(crate) mod pairs;
pub(crate) mod resp;
pub(crate) mod signatures;
