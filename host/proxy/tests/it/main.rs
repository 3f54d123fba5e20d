#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod access_log;
mod edge;
mod exclusive;
mod filters;
mod guests;
mod harness;
mod hygiene;
mod layers;
mod observe;
mod observe_live;
mod refusal;
mod regressions;
mod reply;
mod route;
mod route_edit;
mod stock;
mod snapshot;
mod tcp;
mod tls;
mod tls_material;
mod traffic;
mod upstream;
mod upstream_http1;
mod upstream_origin;
