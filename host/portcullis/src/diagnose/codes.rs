//! The registry of codes. A code is never reused and never changes its meaning; each has a page in `explain/`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($code:ident $summary:literal,)*) => {
        /// A stable name for a kind of problem. The first two digits are its range: 01 documents, 02 filters and
        /// modules, 04 fetching, 05 listeners, 06 TLS, 07 exchanges, 09 ourselves.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $summary] $code,)*
        }

        impl Code {
            /// In ascending order.
            pub const ALL: &'static [Code] = &[$(Code::$code,)*];

            /// `P0101`, …
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$code => stringify!($code),)* }
            }

            /// A few words.
            pub fn summary(self) -> &'static str {
                match self { $(Code::$code => $summary,)* }
            }

            /// What `explain` shows.
            pub fn page(self) -> &'static str {
                match self { $(Code::$code => include_str!(concat!("explain/", stringify!($code), ".md")),)* }
            }
        }
    };
}

codes! {
    P0101 "a document is not valid YAML or JSON",
    P0102 "a field that nobody knows",
    P0103 "a value of the wrong type",
    P0104 "a bad duration",
    P0105 "a reference to something that is not there",
    P0106 "the same object twice",
    P0107 "an object of an unknown kind",
    P0108 "a required field is missing",
    P0109 "a bad size",
    P0110 "known, but not supported",
    P0111 "a value that is not allowed",
    P0112 "the same key twice",
    P0113 "a document is too large or too deep",
    P0114 "which Proxy is meant",
    P0115 "a listener that does not take the object",
    P0116 "two routes for the same connections",
    P0117 "a field without effect",
    P0201 "a module imports what this host does not provide",
    P0202 "a module without a Proxy-Wasm marker",
    P0203 "not a valid module",
    P0204 "a module is not the expected one",
    P0205 "a filter refused its configuration",
    P0206 "a filter failed while it started",
    P0207 "a filter does not compile",
    P0208 "no toolchain for WebAssembly",
    P0209 "a filter is missing at the first start",
    P0210 "a module imports functions that do nothing here",
    P0211 "a module without callbacks for what it is to filter",
    P0212 "the compiler gave up on a module",
    P0213 "a module is not signed as it has to be",
    P0214 "a public key cannot be used",
    P0401 "a file cannot be read",
    P0402 "a file is too large",
    P0403 "no reference of an image, no address",
    P0404 "a registry cannot be reached",
    P0405 "a registry does not let us in",
    P0406 "a registry does not have it",
    P0407 "an address that is not dialled",
    P0408 "a registry sent something else",
    P0409 "fetching took too long",
    P0410 "an image without a module",
    P0411 "an archive that is not unpacked",
    P0412 "not fetched before, and offline",
    P0413 "a module is on its way",
    P0414 "the folder of fetched modules cannot be used",
    P0415 "a registry does not take it",
    P0421 "the API server of the cluster cannot be followed",
    P0422 "a right is missing in the cluster",
    P0423 "a key of a ConfigMap belongs to somebody else",
    P0424 "a Secret of the cluster cannot be used",
    P0425 "nothing is known of a proxy",
    P0426 "a proxy does not run what its cluster holds",
    P0427 "a Secret of the cluster is being read",
    P0501 "an address cannot be listened on",
    P0502 "the access log cannot be written",
    P0601 "a certificate or key file holds nothing to use",
    P0602 "a private key cannot be used",
    P0603 "a certificate cannot be used",
    P0604 "a name that no certificate can have",
    P0605 "a certificate has expired",
    P0701 "no route matches the request",
    P0702 "the route's backend is invalid",
    P0703 "no endpoint is ready",
    P0704 "no connection to the upstream",
    P0705 "the upstream broke the exchange off",
    P0706 "time is up",
    P0707 "a filter failed",
    P0708 "a request body is larger than a filter may hold",
    P0709 "a response body is larger than a filter may hold",
    P0710 "a request that breaks the rules of HTTP",
    P0711 "the request's head took too long",
    P0712 "the request's head is too large",
    P0713 "the upstream does not speak the protocol",
    P0901 "something inside Portcullis went wrong",
    P0902 "a configuration contradicts itself inside",
}

impl Code {
    /// Whether nothing is wrong yet, since what is missing is on its way.
    pub fn is_passing(self) -> bool {
        matches!(self, Code::P0413 | Code::P0427)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = ();

    /// Case does not matter.
    fn from_str(text: &str) -> Result<Code, ()> {
        let same = |code: &&Code| code.as_str().eq_ignore_ascii_case(text);
        Code::ALL.iter().find(same).copied().ok_or(())
    }
}
