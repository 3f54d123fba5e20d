//! TCPRoutes and TLSRoutes: parents, server names, backend references, and which of two that want the same gets it.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_proxy::snapshot::{
    BackendIndex, BackendProtocol, ListenerIndex, TcpRoute, WeightedBackend,
};

use super::attach::{self, TCP_ROUTE, TLS_ROUTE, Wants};
use super::backend::{self, Backends};
use super::catalogue::Catalogue;
use super::desk::Desk;
use super::filter::Host;
use super::route::{age, hostnames_of};
use crate::diagnose::{Code, Kind};
use crate::spec::route::{BackendRef, ParentRef, TcpRule};
use crate::spec::{Document, Object};

/// What both kinds say.
struct Written<'a> {
    wants: &'static Wants,
    parent_refs: Option<&'a [ParentRef]>,
    /// `None`: the kind has none.
    hostnames: Option<&'a [String]>,
    rules: &'a [TcpRule],
}

impl<'a> Written<'a> {
    fn of(object: &'a Object) -> Option<Written<'a>> {
        match object {
            Object::TcpRoute(spec) => Some(Written {
                wants: &TCP_ROUTE,
                parent_refs: spec.parent_refs.as_deref(),
                hostnames: None,
                rules: &spec.rules,
            }),
            Object::TlsRoute(spec) => Some(Written {
                wants: &TLS_ROUTE,
                parent_refs: spec.parent_refs.as_deref(),
                hostnames: Some(&spec.hostnames),
                rules: &spec.rules,
            }),
            _ => None,
        }
    }
}

/// All routes that are attached to a listener, oldest first.
pub(super) fn compile(
    catalogue: &Catalogue,
    host: &Host<'_>,
    backends: &Backends,
    desk: &mut Desk<'_>,
) -> Vec<Arc<TcpRoute>> {
    let mut routes = Vec::new();
    for (document, written) in catalogue.objects_of(Written::of) {
        let Written { wants, parent_refs, .. } = &written;
        let listeners = attach::route(document, *parent_refs, wants, host, desk);
        let before = desk.problems.len();
        let hostnames = server_names(document, written.hostnames, desk);
        let backends = shares(document, &written, (catalogue, backends), desk);
        if parent_refs.is_some_and(|refs| !attach::names_us(document, refs, host)) {
            // What somebody else's route names need not be among our documents.
            let found = desk.problems.split_off(before);
            desk.problems.extend(found.into_iter().filter(|found| found.kind == Kind::Object));
            continue;
        }
        if let (Some(hostnames), Some(backends), false) =
            (hostnames, backends, listeners.is_empty())
        {
            let name = document.key().into();
            routes.push((document, TcpRoute { name, listeners, hostnames, backends }));
        }
    }
    routes.sort_by(|(one, first), (other, second)| {
        age(one.created, &first.name).cmp(&age(other.created, &second.name))
    });
    tell_conflicts(&routes, host, desk);
    routes.into_iter().map(|(_, route)| Arc::new(route)).collect()
}

/// Gateway API has no TLSRoute for every name.
fn server_names(
    document: &Document,
    names: Option<&[String]>,
    desk: &mut Desk<'_>,
) -> Option<Vec<String>> {
    let Some(names) = names else { return Some(Vec::new()) };
    if names.is_empty() {
        let title = "a TLSRoute needs `hostnames`";
        let problem = document.problem(Code::P0108, "spec.hostnames", title);
        return desk.refuse(problem.hint("add the server names that it is for"));
    }
    hostnames_of(document, names, desk)
}

fn shares(
    document: &Document,
    written: &Written<'_>,
    known: (&Catalogue, &Backends),
    desk: &mut Desk<'_>,
) -> Option<Vec<WeightedBackend>> {
    let rule = match written.rules {
        [rule] => rule,
        [] => {
            let problem =
                document.problem(Code::P0108, "spec.rules", "the field `rules` is missing");
            return desk.refuse(problem.hint("add a rule with backendRefs"));
        }
        [_, ..] => {
            let title = "a route without HTTP has one rule: nothing could tell several apart";
            let problem = document.problem(Code::P0111, "spec.rules[1]", title);
            return desk.refuse(problem.hint("list the backends in one rule, with weights"));
        }
    };
    let field = "spec.rules[0].backendRefs";
    if rule.backend_refs.is_empty() {
        let problem = document.problem(Code::P0108, field, "the route goes nowhere");
        return desk.refuse(problem.hint("add backendRefs: [{name: …}]"));
    }
    let share = |(index, plain): (usize, &_)| {
        let (field, reference) =
            (format!("{field}[{index}]"), BackendRef::from(Clone::clone(plain)));
        let weight = backend::weight(document, &field, &reference, desk);
        let backend = backend::resolve(document, &field, &reference, known, desk);
        let whose = (document, written.wants);
        let backend = backend.filter(|index| speaks_tcp(whose, &field, (known.1, *index), desk));
        let reference = backend::key(document, &reference);
        Some(WeightedBackend { backend, reference, weight: weight?, filters: Vec::new() })
    };
    let shares: Vec<_> = rule.backend_refs.iter().enumerate().map(share).collect();
    shares.into_iter().collect()
}

fn speaks_tcp(
    (document, wants): (&Document, &Wants),
    field: &str,
    (backends, index): (&Backends, BackendIndex),
    desk: &mut Desk<'_>,
) -> bool {
    let Some(backend) = backends.at(index) else { return false };
    if backend.protocol == BackendProtocol::Tcp {
        return true;
    }
    let spoken = backend::word(backend.protocol);
    let title = format!("Backend {} speaks {spoken}, not TCP", backend.name);
    let problem = document.problem(Code::P0111, &format!("{field}.name"), title);
    let hint = format!("{} needs a Backend with protocol: TCP", wants.what);
    desk.problems.push(problem.reference().hint(hint));
    false
}

/// Where two routes want the same connections, the older one gets them.
fn tell_conflicts(routes: &[(&Document, TcpRoute)], host: &Host<'_>, desk: &mut Desk<'_>) {
    let mut taken: BTreeMap<(ListenerIndex, Option<&str>), &Document> = BTreeMap::new();
    for (document, route) in routes {
        let names: Vec<Option<&str>> = match route.hostnames.as_slice() {
            [] => vec![None],
            names => names.iter().map(|name| Some(name.as_str())).collect(),
        };
        for listener in &route.listeners {
            for (index, name) in names.iter().enumerate() {
                let first = *taken.entry((*listener, *name)).or_insert(document);
                if std::ptr::eq(first, *document) {
                    continue;
                }
                let listener = host.listeners.get(*listener).map_or("", |listener| &listener.name);
                let (title, field) = match name {
                    Some(name) => (
                        format!("{name} on listener {listener:?} is taken"),
                        format!("spec.hostnames[{index}]"),
                    ),
                    None => (
                        format!("the connections of listener {listener:?} are taken"),
                        "metadata.name".to_owned(),
                    ),
                };
                let problem = document.problem(Code::P0116, &field, title);
                desk.problems.push(problem.reference().hint(format!("{} has them", first.title())));
            }
        }
    }
}
