//! Which TCPRoute or TLSRoute serves a connection, by the server name that its client asks for.

use std::sync::Arc;

use super::Table;
use crate::snapshot::{ListenerIndex, Snapshot, TcpRoute};

/// The routes of one listener that does not speak HTTP.
///
/// The most specific name wins: an exact one, then wildcards from the longest to the shortest, then routes without
/// names. Of equals the older one, then the first by namespace and name.
#[derive(Debug, Default)]
pub struct TcpTable {
    exact: Table<str, Arc<TcpRoute>>,
    /// By suffix, without the `*` but with its dot.
    wildcard: Table<str, Arc<TcpRoute>>,
    any: Option<Arc<TcpRoute>>,
}

impl TcpTable {
    /// The table of the routes attached to `listener`.
    pub fn new(snapshot: &Snapshot, listener: ListenerIndex) -> TcpTable {
        let mut table = TcpTable::default();
        let attached = snapshot.tcp_routes.iter();
        for route in attached.filter(|route| route.listeners.contains(&listener)) {
            table.insert(route);
        }
        table
    }

    /// The route for a connection; `None`: it cannot be served.
    pub fn select(&self, server_name: Option<&str>) -> Option<&Arc<TcpRoute>> {
        let name = server_name.map(|name| name.strip_suffix('.').unwrap_or(name));
        name.and_then(|name| self.exact.get(name).or_else(|| self.by_suffix(name)))
            .or(self.any.as_ref())
    }

    fn by_suffix(&self, name: &str) -> Option<&Arc<TcpRoute>> {
        // `*.example.com` does not match `.example.com`, hence at least 1.
        let suffixes = (1..name.len()).filter_map(|at| name.get(at..));
        suffixes
            .filter(|suffix| suffix.starts_with('.'))
            .find_map(|suffix| self.wildcard.get(suffix))
    }

    fn insert(&mut self, route: &Arc<TcpRoute>) {
        if route.hostnames.is_empty() {
            self.any.get_or_insert_with(|| route.clone());
        }
        for name in &route.hostnames {
            let seat = match name.strip_prefix('*') {
                Some(suffix) => self.wildcard.entry(suffix.into()),
                None => self.exact.entry(name.as_str().into()),
            };
            seat.or_insert_with(|| route.clone());
        }
    }
}
