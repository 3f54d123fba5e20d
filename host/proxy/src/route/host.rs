//! The rules of one hostname in the order of their rank.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_vm::{FilterState, RequestHead};

use super::pattern::{
    Pattern, Query, header_matches, method_matches, property_matches, property_name, split_path,
};
use super::{Selected, Table};
use crate::reply::Dialect;
use crate::snapshot::{GrpcMatch, Match, PathMatch, Route, RouteKind, Rule, ValueMatch};

/// One match of one rule, and all that is compared once the path fits.
#[derive(Debug)]
struct Candidate {
    route: Arc<Route>,
    rule: Arc<Rule>,
    hostname: Arc<str>,
    /// Its place among those of the rule, which has none if everything matches.
    number: usize,
    headers: Vec<Pattern>,
    query: Vec<Pattern>,
}

/// GRPCRoutes are asked first, for gRPC requests only. Among HTTPRoutes: exact path, then regular expression (the longer
/// pattern first), then prefix (the longer first), then method, number of headers, number of query parameters; what is
/// still equal keeps the order in which it was inserted.
#[derive(Debug, Default)]
pub(super) struct HostTable {
    grpc: Vec<GrpcCandidate>,
    exact: Table<[u8], Vec<Candidate>>,
    regex: Vec<(Pattern, Candidate)>,
    /// Keys have no trailing slash.
    prefix: Table<[u8], Vec<Candidate>>,
    /// The lengths that occur among the keys of `prefix`, longest first.
    prefix_lengths: Vec<usize>,
}

#[derive(Debug)]
struct GrpcCandidate {
    service: Option<Pattern>,
    method: Option<Pattern>,
    candidate: Candidate,
}

impl HostTable {
    /// `hostname` is the one of the route that this table is for.
    pub(super) fn insert(&mut self, route: &Arc<Route>, hostname: &str) {
        let hostname: Arc<str> = hostname.into();
        for rule in &route.rules {
            let any = [Match::default()];
            let matches = if rule.matches.is_empty() { &any[..] } else { &rule.matches[..] };
            for (number, conditions) in matches.iter().enumerate() {
                let (route, rule, hostname) = (route.clone(), rule.clone(), hostname.clone());
                let candidate = Candidate::new(route, rule, hostname, number);
                self.insert_candidate(candidate, conditions);
            }
        }
    }

    /// To be called once after the last insertion.
    pub(super) fn sort(&mut self) {
        self.grpc.sort_by_key(GrpcCandidate::rank);
        self.exact.values_mut().for_each(|candidates| candidates.sort_by_key(Candidate::rank));
        self.prefix.values_mut().for_each(|candidates| candidates.sort_by_key(Candidate::rank));
        self.regex.sort_by_key(|(path, candidate)| (Reverse(path.characters()), candidate.rank()));
        self.prefix_lengths = self.prefix.keys().map(|prefix| prefix.len()).collect();
        self.prefix_lengths.sort_unstable_by_key(|length| Reverse(*length));
        self.prefix_lengths.dedup();
    }

    pub(super) fn select(&self, head: &RequestHead, stored: &FilterState) -> Option<Selected> {
        let (path, query) = split_path(&head.path);
        let request = Request { head, stored, path, query: Query(query) };
        self.select_grpc(&request)
            .or_else(|| self.select_exact(&request))
            .or_else(|| self.select_regex(&request))
            .or_else(|| self.select_prefix(&request))
    }

    fn insert_candidate(&mut self, candidate: Candidate, conditions: &Match) {
        if candidate.route.kind == RouteKind::Grpc {
            let pattern = |part: fn(&GrpcMatch) -> &Option<ValueMatch>| {
                conditions.grpc.as_ref().and_then(|grpc| part(grpc).as_ref()).map(Pattern::new)
            };
            let (service, method) = (pattern(|grpc| &grpc.service), pattern(|grpc| &grpc.method));
            return self.grpc.push(GrpcCandidate { service, method, candidate });
        }
        match &conditions.path {
            Some(PathMatch::Exact(path)) => {
                insert(&mut self.exact, path.as_bytes(), candidate);
            }
            Some(PathMatch::Regex(regex)) => {
                self.regex.push((Pattern::Regex(regex.into()), candidate));
            }
            Some(PathMatch::Prefix(prefix)) => {
                insert(&mut self.prefix, prefix.trim_end_matches('/').as_bytes(), candidate);
            }
            None => insert(&mut self.prefix, b"", candidate),
        }
    }

    fn select_grpc(&self, request: &Request<'_>) -> Option<Selected> {
        if self.grpc.is_empty() || Dialect::of(&request.head.headers) != Dialect::Grpc {
            return None;
        }
        let call = grpc_call(request.path);
        let fits =
            |wanted: &GrpcCandidate| wanted.matches(call) && wanted.candidate.matches(request);
        self.grpc
            .iter()
            .find(|wanted| fits(wanted))
            .map(|found| found.candidate.selected(Bytes::new()))
    }

    fn select_exact(&self, request: &Request<'_>) -> Option<Selected> {
        let found = first(self.exact.get(request.path)?, request)?;
        Some(found.selected(request.head.path.slice(..request.path.len())))
    }

    fn select_regex(&self, request: &Request<'_>) -> Option<Selected> {
        let fits = |(path, wanted): &&(Pattern, Candidate)| {
            path.matches(request.path) && wanted.matches(request)
        };
        self.regex.iter().find(fits).map(|(_, found)| found.selected(Bytes::new()))
    }

    fn select_prefix(&self, request: &Request<'_>) -> Option<Selected> {
        let path = request.path;
        // The empty prefix is every path, also `*`.
        let whole = |length: usize| length == 0 || matches!(path.get(length), None | Some(b'/'));
        let mut lengths = self.prefix_lengths.iter().filter(|length| whole(**length));
        lengths.find_map(|length| {
            let found = first(self.prefix.get(path.get(..*length)?)?, request)?;
            Some(found.selected(request.head.path.slice(..*length)))
        })
    }
}

struct Request<'a> {
    head: &'a RequestHead,
    stored: &'a FilterState,
    path: &'a [u8],
    query: Query<'a>,
}

/// Most paths have one candidate, so that room for more is made only for a second one.
fn insert(seats: &mut Table<[u8], Vec<Candidate>>, path: &[u8], candidate: Candidate) {
    seats.entry(path.into()).or_insert_with(|| Vec::with_capacity(1)).push(candidate);
}

fn first<'a>(candidates: &'a [Candidate], request: &Request<'_>) -> Option<&'a Candidate> {
    candidates.iter().find(|candidate| candidate.matches(request))
}

impl Candidate {
    fn new(route: Arc<Route>, rule: Arc<Rule>, hostname: Arc<str>, number: usize) -> Candidate {
        let conditions = rule.matches.get(number);
        let headers = conditions.iter().flat_map(|wanted| &wanted.headers);
        let query = conditions.iter().flat_map(|wanted| &wanted.query);
        Candidate {
            headers: headers.map(|header| Pattern::new(&header.value)).collect(),
            query: query.map(|query| Pattern::new(&query.value)).collect(),
            route,
            rule,
            hostname,
            number,
        }
    }

    /// `None`: everything matches.
    fn conditions(&self) -> Option<&Match> {
        self.rule.matches.get(self.number)
    }

    fn rank(&self) -> impl Ord + use<> {
        let any_method = self.conditions().is_none_or(|wanted| wanted.method.is_none());
        (any_method, Reverse(self.headers.len()), Reverse(self.query.len()))
    }

    fn matches(&self, request: &Request<'_>) -> bool {
        let Some(wanted) = self.conditions() else { return true };
        let mut headers = wanted.headers.iter().zip(&self.headers);
        let mut query = wanted.query.iter().zip(&self.query);
        method_matches(wanted.method.as_ref(), &request.head.method)
            && headers.all(|(header, value)| match property_name(&header.name) {
                Some(name) => property_matches(request.stored, name, value),
                None => header_matches(request.head, &header.name, value),
            })
            && query.all(|(wanted, value)| {
                request.query.first(&wanted.name).is_some_and(|found| value.matches(&found))
            })
    }

    fn selected(&self, prefix: Bytes) -> Selected {
        Selected {
            route: self.route.clone(),
            rule: self.rule.clone(),
            hostname: self.hostname.clone(),
            prefix,
        }
    }
}

impl GrpcCandidate {
    /// Exact ones come first, as with paths: Gateway API counts characters and leaves regular expressions open.
    fn rank(&self) -> impl Ord + use<> {
        let rank = |pattern: &Option<Pattern>| match pattern {
            Some(pattern @ Pattern::Exact(_)) => (0, Reverse(pattern.characters())),
            Some(pattern @ Pattern::Regex(_)) => (1, Reverse(pattern.characters())),
            None => (2, Reverse(0)),
        };
        let headers = Reverse(self.candidate.headers.len());
        (rank(&self.service), rank(&self.method), headers)
    }

    fn matches(&self, call: Option<(&[u8], &[u8])>) -> bool {
        let fits = |pattern: &Option<Pattern>, value: Option<&[u8]>| match pattern {
            None => true,
            Some(pattern) => value.is_some_and(|value| pattern.matches(value)),
        };
        fits(&self.service, call.map(|call| call.0)) && fits(&self.method, call.map(|call| call.1))
    }
}

/// Service and method of `/service/method`.
fn grpc_call(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let path = path.strip_prefix(b"/")?;
    let slash = path.iter().position(|byte| *byte == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

/// The host of an authority in lower case, without port and final dot; empty if it is no text.
pub(super) fn host_of(authority: &[u8]) -> Cow<'_, str> {
    let host = without_port(authority);
    let host = host.strip_suffix(b".").unwrap_or(host);
    match std::str::from_utf8(host) {
        Ok(host) if host.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Cow::Owned(host.to_ascii_lowercase())
        }
        Ok(host) => Cow::Borrowed(host),
        Err(_) => Cow::Borrowed(""),
    }
}

/// An authority without its port; the brackets of an IPv6 address stay.
pub(super) fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| *byte == b':') {
        Some(colon) if authority[colon + 1..].iter().all(u8::is_ascii_digit) => &authority[..colon],
        _ => authority,
    }
}
