//! HTTPRoutes and GRPCRoutes: parents, rules, backend references.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portcullis_proxy::snapshot::{
    ListenerIndex, Match, PathMatch, Retry, Route, RouteKind, Rule, Timeouts, WeightedBackend,
};

use super::backend::Backends;
use super::catalogue::Catalogue;
use super::desk::Desk;
use super::edits::{Edits, Place};
use super::filter::{Filters, Host};
use super::{matches, words};
use crate::diagnose::{Code, Kind, nearest};
use crate::spec::route::{self as written, ParentRef};
use crate::spec::{Document, Object};

const GATEWAY: &str = "gateway.networking.k8s.io";
const OURS: &str = "portcullis.dev";
const MAX_WEIGHT: u32 = 1_000_000;
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
        let listeners = match parent_refs {
            Some(refs) => {
                parents(document, "spec.parentRefs", refs, (GATEWAY, "Gateway"), host, desk)
            }
            None => (0..host.listeners.len()).collect(),
        };
        let before = desk.problems.len();
        let hostnames = hostnames_of(document, hostnames, desk);
        let edits = Edits { document, catalogue, filters };
        let compiler = Compiler { document, catalogue, backends, edits };
        let rules = compiler.rules(object, desk);
        if parent_refs.as_ref().is_some_and(|refs| !names_us(document, refs, host)) {
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
    routes.sort_by(|one, other| {
        let rank = |route: &Route| (route.created.is_none(), route.created);
        rank(one).cmp(&rank(other)).then_with(|| one.name.cmp(&other.name))
    });
    routes
}

/// The listeners that `refs` name; what is not ours is noted.
pub(super) fn parents(
    document: &Document,
    field: &str,
    refs: &[ParentRef],
    (group, kind): (&str, &str),
    host: &Host<'_>,
    desk: &mut Desk<'_>,
) -> Vec<ListenerIndex> {
    let mut found = BTreeSet::new();
    let Some(proxy) = host.proxy else { return Vec::new() };
    for (index, parent) in refs.iter().enumerate() {
        let field = format!("{field}[{index}]");
        if !is_proxy(document, parent, (group, kind), proxy) {
            let kind = parent.kind.as_deref().unwrap_or(kind);
            let namespace = parent.namespace.as_deref().unwrap_or(&document.namespace);
            let text = format!("{kind} {namespace}/{} is not held by this proxy", parent.name);
            desk.note(document, &format!("{field}.name"), text);
            continue;
        }
        let fits = |(_, listener): &(usize, &portcullis_proxy::snapshot::Listener)| {
            parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
                && parent.port.is_none_or(|port| port == listener.address.port())
        };
        let before = found.len();
        let fitting = host.listeners.iter().enumerate().filter(fits);
        found.extend(fitting.map(|(index, _)| index));
        if let (true, Some(name)) = (found.len() == before, &parent.section_name)
            && proxy.object.is_some()
            && !host.listeners.iter().any(|listener| listener.name == *name)
        {
            let title = format!("{} has no listener {name:?}", proxy.title());
            let problem = document.problem(Code::P0105, &format!("{field}.sectionName"), title);
            let known = || host.listeners.iter().map(|listener| listener.name.as_str());
            desk.problems.push(problem.reference().hint(match nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has: {}", known().collect::<Vec<_>>().join(", ")),
            }));
        }
    }
    found.into_iter().collect()
}

/// Whether `parent` is `proxy`, the group and kind being what they are by default.
fn is_proxy(
    document: &Document,
    parent: &ParentRef,
    (group, kind): (&str, &str),
    proxy: &Document,
) -> bool {
    parent.group.as_deref().unwrap_or(group) == OURS
        && parent.kind.as_deref().unwrap_or(kind) == "Proxy"
        && parent.namespace.as_deref().unwrap_or(&document.namespace) == proxy.namespace
        && parent.name == proxy.name
}

/// Whether any of a route's parents is our Proxy; true while it is not known which one is ours.
fn names_us(document: &Document, refs: &[ParentRef], host: &Host<'_>) -> bool {
    host.proxy.is_none_or(|proxy| {
        refs.iter().any(|parent| is_proxy(document, parent, (GATEWAY, "Gateway"), proxy))
    })
}

fn hostnames_of(document: &Document, names: &[String], desk: &mut Desk<'_>) -> Option<Vec<String>> {
    let mut right = Some(Vec::new());
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
        let rules: Vec<Option<Arc<Rule>>> = match object {
            Object::HttpRoute(spec) => {
                let rules = spec.rules.clone().unwrap_or_else(|| vec![Default::default()]);
                rules.iter().enumerate().map(|(index, rule)| self.http(index, rule, desk)).collect()
            }
            Object::GrpcRoute(spec) => {
                let rules = spec.rules.clone().unwrap_or_else(|| vec![Default::default()]);
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
        let (mut compiled, mut broken, mut right) = (Vec::new(), None, true);
        for (index, reference) in refs.iter().enumerate() {
            let field = format!("{field}.backendRefs[{index}]");
            let weight = reference.weight.unwrap_or(1);
            if weight > MAX_WEIGHT {
                let title = format!("the weight {weight} is out of range");
                let problem = self.document.problem(Code::P0111, &format!("{field}.weight"), title);
                desk.problems.push(problem.hint(format!("use a number from 0 to {MAX_WEIGHT}")));
                right = false;
            }
            let at = format!("{field}.filters");
            let filters = self.edits.compile(&at, &reference.filters, Place::BackendRef, desk);
            let backend = self.backend(&field, reference, desk);
            let Some((filters, reason)) = filters else {
                right = false;
                continue;
            };
            broken = broken.or(reason);
            let reference = self.reference(reference);
            compiled.push(WeightedBackend { backend, reference, weight, filters });
        }
        right.then_some((compiled, broken))
    }

    fn reference(&self, reference: &written::BackendRef) -> String {
        let namespace = reference.namespace.as_deref().unwrap_or(&self.document.namespace);
        format!("{namespace}/{}", reference.name)
    }

    /// The Backend of that name, whether it is called a Backend or a Service.
    fn backend(
        &self,
        field: &str,
        reference: &written::BackendRef,
        desk: &mut Desk<'_>,
    ) -> Option<usize> {
        let group = reference.group.as_deref().unwrap_or_default();
        let kind = reference.kind.as_deref().unwrap_or("Service");
        if !matches!((group, kind), ("" | "core", "Service") | (OURS, "Backend")) {
            let title = format!("{kind} of {group:?} is nothing that takes traffic");
            let problem = self.document.problem(Code::P0105, &format!("{field}.kind"), title);
            let hint = "use a Service, or group: portcullis.dev, kind: Backend";
            return desk.refuse(problem.reference().hint(hint));
        }
        let namespace = reference.namespace.as_deref().unwrap_or(&self.document.namespace);
        let wanted = ("Backend", namespace, reference.name.as_str());
        if self.catalogue.get(wanted.0, wanted.1, wanted.2).is_none() {
            let field = format!("{field}.name");
            let problem = self.catalogue.dangling(self.document, &field, wanted, desk);
            return desk.refuse(problem);
        }
        self.backends.get(&self.reference(reference))
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
