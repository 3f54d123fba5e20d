//! Write Proxy-Wasm filters: the configuration struct is the filter.
//!
//! ```
//! use portcullis_sdk::prelude::*;
//!
//! /// Lets only some tenants in.
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Tenants {
//!     header: String,
//!     allow: Vec<String>,
//! }
//!
//! impl Filter for Tenants {
//!     async fn request(&self, req: &mut Request) -> Flow {
//!         let tenants = req.headers(&self.header);
//!         if tenants.is_empty() || tenants.iter().any(|tenant| !self.allow.contains(tenant)) {
//!             return Err(Reply::forbidden("unknown tenant"));
//!         }
//!         CONTINUE
//!     }
//! }
//!
//! portcullis_sdk::filter!(Tenants: request);
//!
//! let host = portcullis_sdk::test::Host::of::<Tenants>(
//!     r#"{"header": "x-tenant", "allow": ["blue"]}"#,
//! );
//! assert_eq!(host.get("/").header("x-tenant", "blue").send().status(), 200);
//! assert_eq!(host.get("/").header("x-tenant", "red").send().status(), 403);
//! ```
//!
//! Filters run unchanged on any host of ABI 0.2.1, Envoy and Istio among them: nothing here calls
//! a function that only our host has. Natively they link against a mock host, [`test::Host`].
//! Built on the `proxy-wasm` crate, a module exports every callback whatever
//! [`filter!`] lists; a phase that is not listed returns at once.

#[cfg(not(target_arch = "wasm32"))]
pub mod test;
mod plugin;
mod filter;
mod summary;
mod request;
mod response;
mod reply;
mod sleep;
mod metric;
mod value;
mod random;
mod host;

pub use filter::{CONTINUE, ConfigError, Filter, Flow, Phases};
pub use host::now;
pub use log;
pub use metric::{Counter, Gauge, Histogram};
pub use random::random;
pub use reply::Reply;
pub use request::Request;
pub use response::Response;
pub use sleep::{Sleep, sleep};
pub use summary::Summary;
pub use value::{DurationText, Percent, Status};

/// Everything a filter usually needs.
pub mod prelude {
    pub use crate::{
        CONTINUE, ConfigError, Counter, DurationText, Filter, Flow, Gauge, Histogram, Percent,
        Reply, Request, Response, Status, Summary, filter, log, now, random, sleep,
    };
    pub use serde::Deserialize;
}

/// For [`filter!`] alone.
#[doc(hidden)]
pub mod macros {
    pub use crate::plugin::install;
    pub use proxy_wasm;
}

/// The filter that the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
