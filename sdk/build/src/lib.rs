//! Finds or installs a Wasm toolchain, compiles a filter, slims and checks it.
