//! A private registry, as the tests on registries have it.

#[path = "../it/distribution/images.rs"]
pub mod images;
#[path = "../it/distribution/server.rs"]
pub mod server;
