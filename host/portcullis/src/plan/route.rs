//! HTTPRoutes and GRPCRoutes: parents, rules, backend references.

use std::sync::Arc;
use std::time::Duration;

use portcullis_proxy::snapshot::{
    BackendProtocol, Match, PathMatch, Retry, Route, RouteKind, Rule, Timeouts, WeightedBackend,
};

use super::attach::{GRPC_ROUTE, HTTP_ROUTE};
use super::backend::Backends;
use super::catalogue::Catalogue;
use super::desk::Desk;
use super::edits::{Edits, Place};
use super::filter::{Filters, Host};
use super::{attach, backend, matches, words};
use crate::diagnose::{Code, Kind};
use crate::spec::route as written;
use crate::spec::{Document, Object};

const BACKOFF: Duration = Duration::from_millis(25);

/// All routes that are attached to a listener, oldest first.
pub(super) fn compile(
    catalogue: &Catalogue,
    host: &Host<'_>,
    backends: &Backends,
    filters: &Filters,
    desk: &mut Desk<'_>,
) -> Vec<Arc<Route>> {
    let mut routes = Vec::new();
    for (document, object) in catalogue.objects_of(Some) {
        let (kind, parent_refs, hostnames) = match object {
            Object::HttpRoute(spec) => (RouteKind::Http, &spec.parent_refs, &spec.hostnames),
            Object::GrpcRoute(spec) => (RouteKind::Grpc, &spec.parent_refs, &spec.hostnames),
            _ => continue,
        };
        let wants = match kind {
            RouteKind::Http => &HTTP_ROUTE,
            RouteKind::Grpc => &GRPC_ROUTE,
        };
        let listeners = attach::route(document, parent_refs.as_deref(), wants, host, desk);
        let before = desk.problems.len();
        let hostnames = hostnames_of(document, hostnames, desk);
        let edits = Edits { document, catalogue, filters };
        let compiler = Compiler { document, catalogue, backends, edits };
        let rules = compiler.rules(object, desk);
        if parent_refs.as_ref().is_some_and(|refs| !attach::names_us(document, refs, host)) {
            // What somebody else's route names need not be among our documents.
            let found = desk.problems.split_off(before);
            desk.problems.extend(found.into_iter().filter(|found| found.kind == Kind::Object));
            continue;
        }
        if listeners.is_empty() {
            continue;
        }
        if let (Some(hostnames), Some(rules)) = (hostnames, rules) {
            let (name, created) = (document.key().into(), document.created);
            routes.push(Arc::new(Route { name, kind, listeners, hostnames, created, rules }));
        }
    }
    routes.sort_by(|one, other| age(one.created, &one.name).cmp(&age(other.created, &other.name)));
    routes
}

/// Sorts older ones first, then by namespace and name.
pub(super) fn age(created: Option<i64>, name: &str) -> impl Ord + use<'_> {
    (created.is_none(), created, name)
}

pub(super) fn hostnames_of(
    document: &Document,
    names: &[String],
    desk: &mut Desk<'_>,
) -> Option<Vec<String>> {
    let mut right = Some(Vec::with_capacity(names.len()));
    for (index, name) in names.iter().enumerate() {
        match (words::hostname(name), &mut right) {
            (Ok(name), Some(all)) => all.push(name),
            (Ok(_), None) => {}
            (Err(hint), _) => {
                let title = format!("{name:?} is not a host name");
                let field = format!("spec.hostnames[{index}]");
                desk.problems.push(document.problem(Code::P0111, &field, title).hint(hint));
                right = None;
            }
        }
    }
    right
}

/// One route on its way into the snapshot.
struct Compiler<'a> {
    document: &'a Document,
    catalogue: &'a Catalogue,
    backends: &'a Backends,
    edits: Edits<'a>,
}

/// What rules of both kinds have in common.
struct Common<'a> {
    name: Option<&'a String>,
    filters: &'a [written::Filter],
    backend_refs: &'a [written::BackendRef],
    session_persistence: bool,
}

impl Compiler<'_> {
    fn rules(&self, object: &Object, desk: &mut Desk<'_>) -> Option<Vec<Arc<Rule>>> {
        let default = ([written::HttpRule::default()], [written::GrpcRule::default()]);
        let rules: Vec<Option<Arc<Rule>>> = match object {
            Object::HttpRoute(spec) => {
                let rules = spec.rules.as_deref().unwrap_or(&default.0);
                rules.iter().enumerate().map(|(index, rule)| self.http(index, rule, desk)).collect()
            }
            Object::GrpcRoute(spec) => {
                let rules = spec.rules.as_deref().unwrap_or(&default.1);
                rules.iter().enumerate().map(|(index, rule)| self.grpc(index, rule, desk)).collect()
            }
            _ => Vec::new(),
        };
        rules.into_iter().collect()
    }

    fn http(
        &self,
        index: usize,
        rule: &written::HttpRule,
        desk: &mut Desk<'_>,
    ) -> Option<Arc<Rule>> {
        let field = format!("spec.rules[{index}]");
        let matches =
            matches::http(self.document, &format!("{field}.matches"), &rule.matches, desk);
        let timeouts = self.timeouts(&field, rule.timeouts.as_ref(), desk);
        let retry = self.retry(&field, rule.retry.as_ref(), desk);
        let common = Common {
            name: rule.name.as_ref(),
            filters: &rule.filters,
            backend_refs: &rule.backend_refs,
            session_persistence: rule.session_persistence.is_some(),
        };
        let rule = self.rule(index, &common, matches, desk)?;
        Some(Arc::new(Rule { timeouts: timeouts?, retry: retry.ok()?, ..rule }))
    }

    fn grpc(
        &self,
        index: usize,
        rule: &written::GrpcRule,
        desk: &mut Desk<'_>,
    ) -> Option<Arc<Rule>> {
        let field = format!("spec.rules[{index}].matches");
        let matches = matches::grpc(self.document, &field, &rule.matches, desk);
        let common = Common {
            name: rule.name.as_ref(),
            filters: &rule.filters,
            backend_refs: &rule.backend_refs,
            session_persistence: rule.session_persistence.is_some(),
        };
        self.rule(index, &common, matches, desk).map(Arc::new)
    }

    fn rule(
        &self,
        index: usize,
        common: &Common<'_>,
        matches: Option<Vec<Match>>,
        desk: &mut Desk<'_>,
    ) -> Option<Rule> {
        let field = format!("spec.rules[{index}]");
        let prefixes =
            matches.iter().flatten().all(|one| matches!(one.path, Some(PathMatch::Prefix(_))));
        let place = if prefixes { Place::PrefixRule } else { Place::Rule };
        let filters = self.edits.compile(&format!("{field}.filters"), common.filters, place, desk);
        let backends = self.backends(&field, common.backend_refs, desk);
        let persistence = common.session_persistence.then(|| {
            let title = "sessionPersistence is not supported; this rule answers 500";
            let field = format!("{field}.sessionPersistence");
            let problem = self.document.problem(Code::P0110, &field, title).warning();
            desk.problems.push(problem.hint("remove it"));
            "sessionPersistence is not supported".to_owned()
        });
        let (filters, broken_filter) = filters?;
        let (backends, broken_backend) = backends?;
        let name = match common.name {
            Some(name) => name.as_str().into(),
            None => format!("{}/{index}", self.document.key()).into(),
        };
        Some(Rule {
            name,
            matches: matches?,
            filters,
            backends,
            broken: broken_filter.or(broken_backend).or(persistence),
            ..Rule::default()
        })
    }

    fn backends(
        &self,
        field: &str,
        refs: &[written::BackendRef],
        desk: &mut Desk<'_>,
    ) -> Option<(Vec<WeightedBackend>, Option<String>)> {
        let (mut broken, mut right) = (None, true);
        let mut compiled = Vec::with_capacity(refs.len());
        for (index, reference) in refs.iter().enumerate() {
            let field = format!("{field}.backendRefs[{index}]");
            let weight = backend::weight(self.document, &field, reference, desk);
            right &= weight.is_some();
            let at = format!("{field}.filters");
            let filters = self.edits.compile(&at, &reference.filters, Place::BackendRef, desk);
            let known = (self.catalogue, self.backends);
            let backend = backend::resolve(self.document, &field, reference, known, desk);
            let backend = backend.filter(|index| self.speaks_http(*index, &field, desk));
            let Some((filters, reason)) = filters else {
                right = false;
                continue;
            };
            broken = broken.or(reason);
            let reference = backend::key(self.document, reference);
            let weight = weight.unwrap_or_default();
            compiled.push(WeightedBackend { backend, reference, weight, filters });
        }
        right.then_some((compiled, broken))
    }

    fn speaks_http(&self, index: usize, field: &str, desk: &mut Desk<'_>) -> bool {
        let Some(backend) = self.backends.at(index) else { return false };
        let hint = match backend.protocol {
            BackendProtocol::Tcp => {
                "a TCPRoute or TLSRoute may name it, or give the Backend protocol: HTTP"
            }
            BackendProtocol::Redis => {
                "it is for the commands of filters; give the Backend protocol: HTTP"
            }
            _ => return true,
        };
        let spoken = backend::word(backend.protocol);
        let title = format!("Backend {} speaks {spoken}, not HTTP", backend.name);
        let problem = self.document.problem(Code::P0111, &format!("{field}.name"), title);
        desk.problems.push(problem.reference().hint(hint));
        false
    }

    fn timeouts(
        &self,
        field: &str,
        timeouts: Option<&written::Timeouts>,
        desk: &mut Desk<'_>,
    ) -> Option<Timeouts> {
        let Some(timeouts) = timeouts else { return Some(Timeouts::default()) };
        let request = timeouts.request.and_then(|time| time.nonzero());
        let backend_request = timeouts.backend_request.and_then(|time| time.nonzero());
        if let (Some(whole), Some(part)) = (request, backend_request)
            && part > whole
        {
            let title = "one attempt may not take longer than the whole request";
            let field = format!("{field}.timeouts.backendRequest");
            let problem = self.document.problem(Code::P0111, &field, title);
            return desk.refuse(problem.hint("use at most the value of timeouts.request"));
        }
        Some(Timeouts { request, backend_request })
    }

    fn retry(
        &self,
        field: &str,
        retry: Option<&written::Retry>,
        desk: &mut Desk<'_>,
    ) -> Result<Option<Retry>, ()> {
        let Some(retry) = retry else { return Ok(None) };
        let mut result = Ok(());
        for (index, code) in retry.codes.iter().enumerate() {
            if !(400..600).contains(code) {
                let field = format!("{field}.retry.codes[{index}]");
                let title = format!("{code} is not the status of a failure");
                let problem = self.document.problem(Code::P0111, &field, title);
                desk.problems.push(problem.hint("use a status from 400 to 599"));
                result = Err(());
            }
        }
        result.map(|()| {
            Some(Retry {
                codes: retry.codes.iter().copied().collect(),
                attempts: retry.attempts.unwrap_or(1),
                backoff: retry.backoff.map_or(BACKOFF, |time| time.get()),
            })
        })
    }
}
