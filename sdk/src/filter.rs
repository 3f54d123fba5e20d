//! What an author writes: the [`Filter`] trait, and [`filter!`](crate::filter!) which makes a
//! module of it. It holds no state and calls no host.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::{Reply, Request, Response, Summary};

/// How a request phase ends: `Ok` goes on, `Err` answers the client now.
pub type Flow = Result<(), Reply>;

/// Go on.
pub const CONTINUE: Flow = Ok(());

/// A filter. The struct is its configuration: it is deserialised from the plugin configuration
/// (JSON; nothing at all counts as `{}`) when the host configures the plugin, and shared by all
/// requests from then on.
///
/// Put `#[serde(deny_unknown_fields)]` on it, so that a misspelt field is refused rather than
/// ignored.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a filter",
    note = "derive `Deserialize` on it (its fields are its configuration) and implement `Filter`"
)]
#[allow(async_fn_in_trait, reason = "an instance has one thread, so futures need not be Send")]
pub trait Filter: DeserializeOwned + 'static {
    /// Whether a configuration that parses also makes sense.
    ///
    /// # Errors
    /// Refuses the configuration; the host reports it and keeps the one before.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The request's head has arrived. Awaiting holds the request back and nothing else: no
    /// thread waits. Await only what this crate offers.
    ///
    /// # Errors
    /// A [`Reply`] answers the client; the request goes no further.
    async fn request(&self, req: &mut Request) -> Flow {
        let _ = req;
        CONTINUE
    }

    /// The response's head has arrived, from upstream or from a filter's reply.
    fn response(&self, res: &mut Response) {
        let _ = res;
    }

    /// The exchange is over, however it ended.
    fn log(&self, end: &Summary) {
        let _ = end;
    }
}

/// The phases that a filter takes part in; made by [`filter!`](crate::filter!).
pub trait Phases {
    /// Calls [`Filter::request`].
    const REQUEST: bool;
    /// Calls [`Filter::response`].
    const RESPONSE: bool;
    /// Calls [`Filter::log`].
    const LOG: bool;
}

/// Why a configuration is refused, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    path: String,
    problem: String,
}

impl ConfigError {
    /// `path` is the field as JSON paths are written, without the root: `rules[2].header`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> ConfigError {
        ConfigError { path: path.into(), problem: problem.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" | "." => write!(f, "config: {}", self.problem),
            path => write!(f, "config.{path}: {}", self.problem),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Makes a module of a filter: `filter!(MyFilter: request, response);` with the phases that it
/// implements, out of `request`, `response` and `log`. Once in a crate, at its top level.
#[macro_export]
macro_rules! filter {
    ($filter:ty: $($phase:ident),+ $(,)?) => {
        impl $crate::Phases for $filter {
            const REQUEST: bool = $($crate::filter!(@is request $phase))||+;
            const RESPONSE: bool = $($crate::filter!(@is response $phase))||+;
            const LOG: bool = $($crate::filter!(@is log $phase))||+;
        }

        // Natively too, so that the compiler sees the filter in use.
        const _: fn() = $crate::macros::install::<$filter>;

        #[cfg(target_arch = "wasm32")]
        $crate::macros::proxy_wasm::main! {{ $crate::macros::install::<$filter>(); }}
    };
    (@is request request) => { true };
    (@is response response) => { true };
    (@is log log) => { true };
    (@is $asked:ident request) => { false };
    (@is $asked:ident response) => { false };
    (@is $asked:ident log) => { false };
    (@is $asked:ident $other:ident) => {
        compile_error!(concat!("no phase `", stringify!($other), "`: request, response or log"))
    };
    ($($other:tt)*) => {
        compile_error!("write it as filter!(MyFilter: request, response);")
    };
}
