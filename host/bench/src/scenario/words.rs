//! The words of `scenarios.toml`: proxies, loads, protocols, and what figures and filters are about.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "their names say it")]
pub enum PeerName {
    Portcullis,
    Nginx,
    Haproxy,
    Envoy,
}

impl PeerName {
    /// All of them, in the order of the tables.
    pub const ALL: [PeerName; 4] =
        [PeerName::Portcullis, PeerName::Nginx, PeerName::Haproxy, PeerName::Envoy];

    /// Whether it runs Wasm filters.
    #[must_use]
    pub fn runs_filters(self) -> bool {
        matches!(self, PeerName::Portcullis | PeerName::Envoy)
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PeerName::Portcullis => "Portcullis",
            PeerName::Nginx => "nginx",
            PeerName::Haproxy => "HAProxy",
            PeerName::Envoy => "Envoy",
        })
    }
}

/// How much is asked at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Load {
    /// As much as the proxy answers.
    Saturated,
    /// So many requests a second, whether or not the ones before are answered.
    Rate(u32),
    /// So many connections that have had one answer and wait.
    Idle(u32),
}

impl TryFrom<String> for Load {
    type Error = String;

    fn try_from(text: String) -> Result<Load, String> {
        let number = |digits: &str| digits.parse().map_err(|_| format!("{text} is no load"));
        match (text.strip_suffix("/s"), text.strip_suffix(" idle")) {
            (Some(rate), _) => number(rate).map(Load::Rate),
            (_, Some(connections)) => number(connections).map(Load::Idle),
            _ if text == "saturated" => Ok(Load::Saturated),
            _ => Err(format!("{text} is no load")),
        }
    }
}

impl From<Load> for String {
    fn from(load: Load) -> String {
        load.to_string()
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Saturated => write!(f, "saturated"),
            Load::Rate(rate) => write!(f, "{rate}/s"),
            Load::Idle(connections) => write!(f, "{connections} idle"),
        }
    }
}

/// What is spoken on one side of the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speech {
    /// HTTP/1.1 in the clear.
    #[default]
    Http1,
    /// HTTP/2 in the clear.
    Http2,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
    /// The same, with certificates on both sides.
    Mtls,
}

/// What the figures are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// CPU time for each request, requests a second.
    #[default]
    Requests,
    /// CPU time for each GiB, MiB a second.
    Bytes,
}

/// What can be seen of a filter from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Nothing; its counter tells.
    #[default]
    Nothing,
    /// The header `x-bench-N` on requests and on responses.
    Headers,
    /// The body in capitals.
    Capitals,
}
