//! What routes and filters are attached to: the listeners that their references name, or all that fit.

use std::collections::BTreeSet;

use portcullis_proxy::snapshot::{Listener, ListenerIndex, ListenerProtocol};

use super::desk::Desk;
use super::filter::Host;
use crate::diagnose::{Code, nearest};
use crate::spec::Document;
use crate::spec::route::ParentRef;

const GATEWAY: &str = "gateway.networking.k8s.io";
const OURS: &str = "portcullis.dev";

/// What kind of object is attached, and to which listeners it can be.
pub(super) struct Wants {
    /// With its article.
    pub what: &'static str,
    takes: fn(&Listener) -> bool,
    /// The listeners that take it, in words.
    needs: &'static str,
    /// Group and kind of a parent that says neither.
    parent: (&'static str, &'static str),
}

const PARENT: (&str, &str) = (GATEWAY, "Gateway");
const TARGET: (&str, &str) = (OURS, "Proxy");

pub(super) const HTTP_ROUTE: Wants =
    Wants { what: "an HTTPRoute", takes: speaks_http, needs: "HTTP or HTTPS", parent: PARENT };
pub(super) const GRPC_ROUTE: Wants =
    Wants { what: "a GRPCRoute", takes: speaks_http, needs: "HTTP or HTTPS", parent: PARENT };
pub(super) const TCP_ROUTE: Wants = Wants {
    what: "a TCPRoute",
    takes: |listener| listener.protocol == ListenerProtocol::Tcp,
    needs: "TCP, or TLS that is terminated",
    parent: PARENT,
};
pub(super) const TLS_ROUTE: Wants = Wants {
    what: "a TLSRoute",
    takes: |listener| !speaks_http(listener) && is_encrypted(listener),
    needs: "TLS",
    parent: PARENT,
};
pub(super) const HTTP_FILTER: Wants =
    Wants { what: "an HTTP filter", takes: speaks_http, needs: "HTTP or HTTPS", parent: TARGET };
pub(super) const NETWORK_FILTER: Wants = Wants {
    what: "a network filter",
    takes: |listener| !speaks_http(listener),
    needs: "TCP or TLS",
    parent: TARGET,
};

fn speaks_http(listener: &Listener) -> bool {
    listener.protocol == ListenerProtocol::Http
}

fn is_encrypted(listener: &Listener) -> bool {
    listener.tls.is_some() || listener.protocol == ListenerProtocol::Passthrough
}

/// The listeners of a route: those that its parents name, or all that take it, which may be none.
pub(super) fn route(
    document: &Document,
    refs: Option<&[ParentRef]>,
    wants: &Wants,
    host: &Host<'_>,
    desk: &mut Desk<'_>,
) -> Vec<ListenerIndex> {
    match refs {
        Some(refs) => parents(document, "spec.parentRefs", refs, wants, host, desk),
        None => {
            let fitting = all(wants, host);
            if fitting.is_empty() {
                tell_homeless(document, wants, host, desk);
            }
            fitting
        }
    }
}

/// A route without parents that no listener takes. A Proxy that is not right may lack the listener for that reason.
fn tell_homeless(document: &Document, wants: &Wants, host: &Host<'_>, desk: &mut Desk<'_>) {
    let usable = host.proxy.is_some_and(|proxy| !desk.has_error_of(proxy));
    if !usable || host.listeners.is_empty() {
        return;
    }
    let title = format!("no listener of this proxy takes {}; the route serves nothing", wants.what);
    let problem = document.problem(Code::P0115, "metadata.name", title).warning();
    let hint = format!("add a listener whose protocol is {}", wants.needs);
    desk.problems.push(problem.hint(format!("{hint}, or name another Proxy in parentRefs")));
}

/// All listeners that take it.
pub(super) fn all(wants: &Wants, host: &Host<'_>) -> Vec<ListenerIndex> {
    let listeners = host.listeners.iter().enumerate();
    listeners.filter(|(_, listener)| (wants.takes)(listener)).map(|(index, _)| index).collect()
}

/// The listeners that `refs` name; what is not ours is noted.
pub(super) fn parents(
    document: &Document,
    field: &str,
    refs: &[ParentRef],
    wants: &Wants,
    host: &Host<'_>,
    desk: &mut Desk<'_>,
) -> Vec<ListenerIndex> {
    let (group, kind) = wants.parent;
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
        let meant = |(_, listener): &(usize, &Listener)| {
            parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
                && parent.port.is_none_or(|port| port == listener.address.port())
        };
        let meant: Vec<_> = host.listeners.iter().enumerate().filter(meant).collect();
        let fitting = meant.iter().filter(|(_, listener)| (wants.takes)(listener));
        found.extend(fitting.map(|(index, _)| *index));
        tell_unfit(document, &field, parent, wants, &meant, desk);
        if let (true, Some(name)) = (meant.is_empty(), &parent.section_name)
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
pub(super) fn names_us(document: &Document, refs: &[ParentRef], host: &Host<'_>) -> bool {
    host.proxy
        .is_none_or(|proxy| refs.iter().any(|parent| is_proxy(document, parent, PARENT, proxy)))
}

/// A reference that names listeners of which none takes the object.
fn tell_unfit(
    document: &Document,
    field: &str,
    parent: &ParentRef,
    wants: &Wants,
    meant: &[(usize, &Listener)],
    desk: &mut Desk<'_>,
) {
    let Some((_, first)) = meant.first() else { return };
    if meant.iter().any(|(_, listener)| (wants.takes)(listener)) {
        return;
    }
    let (title, part) = match (&parent.section_name, parent.port) {
        (None, None) => (format!("no listener of the Proxy takes {}", wants.what), "name"),
        (Some(_), _) => {
            (format!("listener {:?} takes no {}", first.name, bare(wants)), "sectionName")
        }
        (None, Some(_)) => (format!("listener {:?} takes no {}", first.name, bare(wants)), "port"),
    };
    let problem = document.problem(Code::P0115, &format!("{field}.{part}"), title);
    let hint = format!("{} needs a listener whose protocol is {}", wants.what, wants.needs);
    desk.problems.push(problem.reference().hint(hint));
}

/// Without its article.
fn bare(wants: &Wants) -> &'static str {
    wants.what.split_once(' ').map_or(wants.what, |(_, what)| what)
}
