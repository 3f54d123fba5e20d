//! `Proxy.spec.registries`: hosts that modules come from, and how they are spoken to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::desk::Desk;
use super::words;
use crate::diagnose::{Code, Problem};
use crate::spec::own::{ProxySpec, RegistrySpec};
use crate::spec::{Document, Object};

/// How long a module may take to arrive, unless its host says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A host that the operator names. Only such a host may have a private address or be on this machine.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Registry {
    /// `HOST` or `HOST:PORT`, in lower case.
    pub host: String,
    /// Whether it is spoken to without TLS.
    pub plain_http: bool,
    /// In PEM, instead of the public authorities.
    pub ca: Option<Bytes>,
    /// A docker config.
    pub credentials: Option<Bytes>,
    /// From the first question to the last byte of a module.
    pub timeout: Duration,
}

impl Registry {
    /// Over TLS, without credentials.
    pub fn new(host: impl Into<String>) -> Registry {
        let host = host.into().to_ascii_lowercase();
        Registry { host, plain_http: false, ca: None, credentials: None, timeout: TIMEOUT }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Those that `proxy` names, as far as they are right.
pub(super) fn compile(proxy: &Document, desk: &mut Desk<'_>) -> Arc<[Registry]> {
    let Some(Object::Proxy(spec)) = proxy.object.as_ref() else { return Arc::default() };
    let ProxySpec { registries, .. } = spec.as_ref();
    let written: Vec<&RegistrySpec> = registries.iter().flatten().collect();
    for (index, registry) in written.iter().enumerate() {
        let same = |other: &&&RegistrySpec| other.host.eq_ignore_ascii_case(&registry.host);
        if written.iter().take(index).any(|other| same(&other)) {
            let title = format!("the registry {} is named twice", registry.host);
            let field = format!("spec.registries[{index}].host");
            let problem = proxy.problem(Code::P0111, &field, title);
            desk.problems.push(problem.hint("say everything about a host in one place"));
        }
    }
    let one = |(index, registry): (usize, &RegistrySpec)| {
        one(proxy, &format!("spec.registries[{index}]"), registry, desk)
    };
    written.into_iter().enumerate().filter_map(one).collect()
}

fn one(
    proxy: &Document,
    field: &str,
    spec: &RegistrySpec,
    desk: &mut Desk<'_>,
) -> Option<Registry> {
    let mut file = |name: &str, path: &Option<String>| match path {
        Some(path) => desk.file(proxy, &format!("{field}.{name}"), path).map(Some),
        None => Some(None),
    };
    let ca = file("caFile", &spec.ca_file);
    let credentials = file("credentialsFile", &spec.credentials_file);
    let mut refuse = |name: &str, title: String, hint: &str| {
        let problem: Problem = proxy.problem(Code::P0111, &format!("{field}.{name}"), title);
        desk.problems.push(problem.hint(hint));
    };
    if !words::is_authority(&spec.host) {
        let title = format!("{:?} is not a host", spec.host);
        refuse("host", title, "a name or an address, with a port where it is not the usual one");
        return None;
    }
    if spec.plain_http && spec.ca_file.is_some() {
        let title = "without TLS there is no certificate to check".to_owned();
        refuse("caFile", title, "remove it, or plainHttp");
    }
    let timeout = spec.timeout.map_or(TIMEOUT, |timeout| timeout.get());
    if timeout.is_zero() {
        refuse("timeout", "nothing arrives in no time".to_owned(), "leave it out for the default");
    }
    Some(Registry {
        plain_http: spec.plain_http,
        ca: ca?,
        credentials: credentials?,
        timeout,
        ..Registry::new(spec.host.as_str())
    })
}
