//! Which rule serves a request, with Gateway API's precedence, and what its filters make of the head. Works on heads
//! only: it never sends, waits or answers.
//!
//! A [`RouteTable`] is built once for each listener of a snapshot. Hostnames, exact paths and prefixes are looked up in
//! hash maps, so that the cost of a selection hardly grows with the number of routes.

mod edit;
mod host;
mod pattern;
mod tcp;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use portcullis_vm::{FilterState, RequestHead};

pub use edit::{apply, apply_to_request, location, rewrite};
pub use tcp::TcpTable;

use host::{HostTable, host_of};
use pattern::property_name;

use crate::snapshot::{
    BackendIndex, ListenerIndex, Route, RouteKind, Rule, Snapshot, WeightedBackend,
};

/// By keys of the configuration: those who ask cannot make them collide, so that hashing may be quick.
type Table<K, V> = HashMap<Box<K>, V, RandomState>;

/// The routes of one listener, ready for selection.
///
/// More specific hostnames come first: exact ones, then wildcards from the longest to the shortest, then routes without
/// hostnames. Where no rule of a more specific hostname matches, the less specific ones get their turn.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: Table<str, HostTable>,
    /// By suffix, without the `*` but with its dot.
    wildcard: Table<str, HostTable>,
    /// Length of the longest of them, so that a very long host costs no more than a long one.
    longest_wildcard: usize,
    any: HostTable,
    /// Whether any match looks at headers that are no pseudo headers.
    reads_headers: bool,
    /// Whether any match looks at what filters have stored.
    reads_properties: bool,
}

/// The rule that serves a request.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The route that holds the rule.
    pub route: Arc<Route>,
    /// The rule.
    pub rule: Arc<Rule>,
    /// The route's hostname that fits, `*` where it has none.
    pub hostname: Arc<str>,
    /// What `ReplacePrefixMatch` replaces: the matched prefix without its trailing slash; the whole path if it was
    /// matched exactly; empty after a regular expression or no path match.
    pub prefix: Bytes,
}

/// Where a rule sends one request.
#[derive(Clone, Copy, Debug)]
pub enum Pick<'a> {
    /// To this backend.
    Backend(BackendIndex, &'a WeightedBackend),
    /// The reference points nowhere: 500.
    Invalid(&'a WeightedBackend),
    /// The rule has no backend with a weight: 500.
    Nothing,
}

impl RouteTable {
    /// The table of the routes attached to `listener`.
    pub fn new(snapshot: &Snapshot, listener: ListenerIndex) -> RouteTable {
        let mut table = RouteTable::default();
        let mut routes: Vec<&Arc<Route>> =
            snapshot.routes.iter().filter(|route| route.listeners.contains(&listener)).collect();
        // The tables' own sorting is stable, so this decides between matches of equal rank.
        routes.sort_by_key(|route| (route.created.unwrap_or(i64::MAX), route.name.clone()));
        for route in routes {
            table.insert(route);
        }
        table.tables().for_each(HostTable::sort);
        table
    }

    /// The rule for a request, and for what filters have stored with it; `None` is a 404.
    pub fn select(&self, head: &RequestHead, stored: &FilterState) -> Option<Selected> {
        let host = host_of(&head.authority);
        self.exact
            .get(host.as_ref())
            .and_then(|table| table.select(head, stored))
            .or_else(|| self.select_by_suffix(&host, head, stored))
            .or_else(|| self.any.select(head, stored))
    }

    /// Whether the selection depends on other headers than the pseudo headers.
    pub fn reads_headers(&self) -> bool {
        self.reads_headers
    }

    /// Whether the selection depends on what filters have stored, and not only on the head.
    pub fn reads_properties(&self) -> bool {
        self.reads_properties
    }

    fn select_by_suffix(
        &self,
        host: &str,
        head: &RequestHead,
        stored: &FilterState,
    ) -> Option<Selected> {
        // `*.example.com` does not match `.example.com`, hence at least 1.
        let start = host.len().saturating_sub(self.longest_wildcard).max(1);
        (start..host.len())
            .filter_map(|at| host.get(at..).filter(|suffix| suffix.starts_with('.')))
            .filter_map(|suffix| self.wildcard.get(suffix))
            .find_map(|table| table.select(head, stored))
    }

    fn insert(&mut self, route: &Arc<Route>) {
        // Calls of gRPC are told by their content type.
        self.reads_headers |= route.kind == RouteKind::Grpc;
        let matches = route.rules.iter().flat_map(|rule| &rule.matches);
        for header in matches.flat_map(|wanted| &wanted.headers) {
            match property_name(&header.name) {
                Some(_) => self.reads_properties = true,
                None => self.reads_headers = true,
            }
        }
        if route.hostnames.is_empty() {
            return self.any.insert(route, "*");
        }
        for hostname in &route.hostnames {
            let hostname = hostname.to_ascii_lowercase();
            let table = match hostname.strip_prefix('*') {
                Some("") => &mut self.any,
                Some(suffix) => {
                    self.longest_wildcard = self.longest_wildcard.max(suffix.len());
                    self.wildcard.entry(suffix.into()).or_default()
                }
                None => self.exact.entry(hostname.as_str().into()).or_default(),
            };
            table.insert(route, &hostname);
        }
    }

    fn tables(&mut self) -> impl Iterator<Item = &mut HostTable> {
        self.exact
            .values_mut()
            .chain(self.wildcard.values_mut())
            .chain(std::iter::once(&mut self.any))
    }
}

/// Where `rule` sends a request, by weight; `random` is uniform over all of `u64`.
pub fn pick(rule: &Rule, random: u64) -> Pick<'_> {
    pick_of(&rule.backends, random)
}

/// Whose turn it is among `backends`, likewise.
pub fn pick_of(backends: &[WeightedBackend], random: u64) -> Pick<'_> {
    let sum: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let mut point = ((u128::from(random) * u128::from(sum)) >> 64) as u64;
    for backend in backends {
        let weight = u64::from(backend.weight);
        if point < weight {
            return match backend.backend {
                Some(index) => Pick::Backend(index, backend),
                None => Pick::Invalid(backend),
            };
        }
        point -= weight;
    }
    Pick::Nothing
}
