//! Modules from registries and servers, over real sockets: a scripted server on loopback, images written byte by byte.

mod access;
mod guard;
mod hostile;
pub mod images;
mod kept;
mod layouts;
mod references;
pub mod server;
mod stories;
mod trusted;
mod verbs;

use std::sync::Arc;
use std::time::Duration;

use portcullis::diagnose::Problem;
use portcullis::fetch::{Brought, DOWNLOADS_BYTES, Downloads, FetchError, Order, Version};
use portcullis::plan::Registry;
use portcullis::spec::filter::PullPolicy;
use tempfile::TempDir;

use server::Server;

/// A registry that the operator named, without TLS.
fn named(server: &Server) -> Registry {
    Registry { plain_http: true, ..Registry::new(server.address.to_string()) }
}

fn order(url: &str, registries: &[Registry]) -> Order {
    Order {
        url: url.to_owned(),
        sha256: None,
        policy: PullPolicy::Unspecified,
        registries: registries.into(),
        trust: Vec::new(),
        secret: None,
        secrets: None,
        occasion: Version::of(b""),
    }
}

/// An order of `image` (`repository:tag`) from a server that the operator named.
fn image(server: &Server, image: &str) -> Order {
    order(&format!("oci://{}/{image}", server.address), &[named(server)])
}

fn downloads() -> (TempDir, Downloads) {
    let folder = tempfile::tempdir().unwrap();
    let downloads = Downloads::open(&folder.path().join("fetched"), DOWNLOADS_BYTES).unwrap();
    (folder, downloads)
}

/// Brings it to a folder of its own.
fn bring(order: &Order) -> Result<Brought, FetchError> {
    order.bring(&downloads().1)
}

/// The code and the words of the problem.
#[track_caller]
fn refused(order: &Order) -> (String, String) {
    let problem = Problem::from(bring(order).map(|_| ()).unwrap_err());
    (problem.code.to_string(), problem.to_string())
}

/// With less patience than a registry usually gets.
fn impatient(order: Order, patience: Duration) -> Order {
    let hurried = |registry: &Registry| Registry { timeout: patience, ..registry.clone() };
    let registries: Arc<[Registry]> = order.registries.iter().map(hurried).collect();
    Order { registries, ..order }
}
