//! Ring 1: runs Proxy-Wasm guests on wasmtime. No sockets, no async, no clock of its own.
