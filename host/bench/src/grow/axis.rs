//! What can be made more, how far, and what a configuration with so many of it is.

use std::net::SocketAddr;

use anyhow::Result;

use crate::alone::{a_match, plainest, small_filters, turns};
use crate::chart::Kind;
use crate::load::Ask;
use crate::scenario::Speech;
use crate::template::Filling;

use super::Bench;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Axis {
    /// Routes that differ by an exact host.
    Hosts,
    /// Rules that differ by a path prefix.
    Prefixes,
    /// Rules that differ by a regular expression for the path.
    Expressions,
    /// Small filters that every request passes.
    Filters,
    /// Connections that have had one answer and wait.
    Connections,
    /// Endpoints of the one backend.
    Endpoints,
    /// Files, each with a route of its own.
    Documents,
}

impl Axis {
    /// All of them, in the order of the tables.
    pub const ALL: [Axis; 7] = [
        Axis::Hosts,
        Axis::Prefixes,
        Axis::Expressions,
        Axis::Filters,
        Axis::Connections,
        Axis::Endpoints,
        Axis::Documents,
    ];

    /// What it counts; also what `--only` calls it.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Axis::Hosts => "hosts",
            Axis::Prefixes => "prefixes",
            Axis::Expressions => "expressions",
            Axis::Filters => "filters",
            Axis::Connections => "connections",
            Axis::Endpoints => "endpoints",
            Axis::Documents => "documents",
        }
    }

    /// How it counts.
    #[must_use]
    pub fn kind(self) -> Kind {
        if self == Axis::Filters { Kind::Linear } else { Kind::Log }
    }

    /// The sizes at which it is measured.
    #[must_use]
    pub fn sizes(self, most: u32) -> Vec<u32> {
        let sizes: &[u32] = match self {
            Axis::Filters => &[0, 1, 2, 5, 10, 20, 50],
            // What a single connection adds is less than memory is counted in.
            Axis::Connections => &[10, 100, 1000, 10_000],
            _ => &[1, 10, 100, 1000, 10_000],
        };
        sizes.iter().copied().filter(|size| *size <= most).collect()
    }

    /// A configuration with so many of it.
    pub(super) fn filling(self, bench: &Bench, count: u32) -> Result<Filling> {
        let mut filling = plainest(1, bench.upstream.address(Speech::Http1));
        match self {
            Axis::Hosts => filling.list("host", turns("host", (1..=count).map(host))),
            Axis::Prefixes => {
                let rule = |number: u32| a_match("PathPrefix", &format!("/r/{number:05}"));
                let all = (1..=count).map(rule).chain([a_match("PathPrefix", "/")]);
                filling.list("match", all.collect())
            }
            Axis::Expressions => {
                let rule =
                    |number: u32| a_match("RegularExpression", &format!("/r/{number:05}/[a-z]+"));
                let all = (1..=count).map(rule).chain([a_match("PathPrefix", "/")]);
                filling.list("match", all.collect())
            }
            Axis::Filters => filling.list("filter", small_filters(&bench.module, count)?),
            Axis::Endpoints => {
                let all = bench.upstream.addresses(count);
                filling
                    .list("endpoint", turns("address", all.map(|all: SocketAddr| all.to_string())))
            }
            Axis::Connections | Axis::Documents => &mut filling,
        };
        Ok(filling)
    }

    /// What is asked in turn, so that each of them is used alike.
    pub(super) fn asks(self, count: u32) -> Vec<Ask> {
        match self {
            Axis::Hosts => {
                let ask = |number| Ask { host: Some(host(number)), path: "/".to_owned() };
                (1..=count).map(ask).collect()
            }
            Axis::Prefixes | Axis::Expressions => {
                (1..=count).map(|number| Ask::path(&format!("/r/{number:05}/x"))).collect()
            }
            _ => vec![Ask::path("/")],
        }
    }
}

/// The host with this number.
pub(super) fn host(number: u32) -> String {
    format!("h{number:05}.example")
}
