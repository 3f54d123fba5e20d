//! Backends: endpoints, protocol, TLS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_proxy::snapshot::{
    Backend, BackendIndex, BackendProtocol, Endpoint, EndpointAddress,
};
use portcullis_proxy::tls::ClientTls;

use super::catalogue::Catalogue;
use super::desk::Desk;
use super::material::Written;
use super::words;
use crate::diagnose::Code;
use crate::spec::own::{self, BackendSpec, BackendTls};
use crate::spec::route::BackendRef;
use crate::spec::{Document, Object};

const OURS: &str = "portcullis.dev";
const MAX_WEIGHT: u32 = 1_000_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The backends that are right.
#[derive(Default)]
pub(super) struct Backends {
    all: Vec<Arc<Backend>>,
    by_name: BTreeMap<String, BackendIndex>,
}

impl Backends {
    pub fn get(&self, key: &str) -> Option<BackendIndex> {
        self.by_name.get(key).copied()
    }

    pub fn at(&self, index: BackendIndex) -> Option<&Backend> {
        self.all.get(index).map(Arc::as_ref)
    }

    pub fn into_backends(self) -> Vec<Arc<Backend>> {
        self.all
    }
}

pub(super) fn compile(catalogue: &Catalogue, desk: &mut Desk<'_>) -> Backends {
    let mut backends = Backends::default();
    for (document, object) in catalogue.objects_of(Some) {
        let Object::Backend(spec) = object else { continue };
        if let Some(backend) = one(document, spec, desk) {
            backends.by_name.insert(document.key(), backends.all.len());
            backends.all.push(Arc::new(backend));
        }
    }
    backends
}

/// As documents write it.
pub(super) fn word(protocol: BackendProtocol) -> &'static str {
    match protocol {
        BackendProtocol::Http => "HTTP",
        BackendProtocol::H2c => "H2C",
        BackendProtocol::Https => "HTTPS",
        BackendProtocol::H2 => "H2",
        BackendProtocol::Tcp => "TCP",
        BackendProtocol::Redis => "REDIS",
    }
}

/// `namespace/name` of what a backendRef of `document` names.
pub(super) fn key(document: &Document, reference: &BackendRef) -> String {
    let namespace = reference.namespace.as_deref().unwrap_or(&document.namespace);
    format!("{namespace}/{}", reference.name)
}

/// The share of a backendRef.
pub(super) fn weight(
    document: &Document,
    field: &str,
    reference: &BackendRef,
    desk: &mut Desk<'_>,
) -> Option<u32> {
    let weight = reference.weight.unwrap_or(1);
    if weight <= MAX_WEIGHT {
        return Some(weight);
    }
    let title = format!("the weight {weight} is out of range");
    let problem = document.problem(Code::P0111, &format!("{field}.weight"), title);
    desk.refuse(problem.hint(format!("use a number from 0 to {MAX_WEIGHT}")))
}

/// The Backend that a backendRef names, whether it is called a Backend or a Service.
pub(super) fn resolve(
    document: &Document,
    field: &str,
    reference: &BackendRef,
    (catalogue, backends): (&Catalogue, &Backends),
    desk: &mut Desk<'_>,
) -> Option<BackendIndex> {
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Service");
    if !matches!((group, kind), ("" | "core", "Service") | (OURS, "Backend")) {
        let title = format!("{kind} of {group:?} is nothing that takes traffic");
        let problem = document.problem(Code::P0105, &format!("{field}.kind"), title);
        let hint = "use a Service, or group: portcullis.dev, kind: Backend";
        return desk.refuse(problem.reference().hint(hint));
    }
    let namespace = reference.namespace.as_deref().unwrap_or(&document.namespace);
    let wanted = ("Backend", namespace, reference.name.as_str());
    if catalogue.get(wanted.0, wanted.1, wanted.2).is_none() {
        let field = format!("{field}.name");
        let problem = catalogue.dangling(document, &field, wanted, desk);
        return desk.refuse(problem);
    }
    backends.get(&key(document, reference))
}

fn one(document: &Document, spec: &BackendSpec, desk: &mut Desk<'_>) -> Option<Backend> {
    let protocol = match spec.protocol {
        own::BackendProtocol::Http => BackendProtocol::Http,
        own::BackendProtocol::H2c => BackendProtocol::H2c,
        own::BackendProtocol::Https => BackendProtocol::Https,
        own::BackendProtocol::H2 => BackendProtocol::H2,
        own::BackendProtocol::Tcp => BackendProtocol::Tcp,
        own::BackendProtocol::Redis => BackendProtocol::Redis,
    };
    let endpoints: Vec<Option<Endpoint>> =
        (0..spec.endpoints.len()).map(|index| endpoint(document, index, spec, desk)).collect();
    let endpoints = endpoints.into_iter().collect::<Option<Vec<_>>>()?;
    let encrypted = matches!(protocol, BackendProtocol::Https | BackendProtocol::H2);
    let tls = match (&spec.tls, encrypted) {
        (Some(tls), false) if matches!(protocol, BackendProtocol::Tcp | BackendProtocol::Redis) => {
            Some(Arc::new(client_tls(document, tls, &endpoints, desk)?))
        }
        (Some(_), false) => {
            let title = "this protocol is not encrypted, and has no `tls`";
            let problem = document.problem(Code::P0111, "spec.tls", title);
            return desk
                .refuse(problem.hint("use protocol: HTTPS, H2, TCP or REDIS, or remove it"));
        }
        (_, false) => None,
        (tls, true) => {
            let tls = tls.clone().unwrap_or_default();
            Some(Arc::new(client_tls(document, &tls, &endpoints, desk)?))
        }
    };
    Some(Backend {
        name: document.key().into(),
        protocol,
        endpoints,
        tls,
        connect_timeout: CONNECT_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
    })
}

fn endpoint(
    document: &Document,
    index: usize,
    spec: &BackendSpec,
    desk: &mut Desk<'_>,
) -> Option<Endpoint> {
    let endpoint = spec.endpoints.get(index)?;
    let weight = endpoint.weight.unwrap_or(1);
    if weight == 0 {
        let field = format!("spec.endpoints[{index}].weight");
        let problem = document.problem(Code::P0111, &field, "an endpoint of weight 0 gets nothing");
        return desk.refuse(problem.hint("remove the endpoint, or use a weight from 1"));
    }
    match words::endpoint(&endpoint.address) {
        Ok(address) => Some(Endpoint { address, weight }),
        Err(hint) => {
            let field = format!("spec.endpoints[{index}].address");
            let title = format!("{:?} is not an address", endpoint.address);
            desk.refuse(document.problem(Code::P0111, &field, title).hint(hint))
        }
    }
}

fn client_tls(
    document: &Document,
    tls: &BackendTls,
    endpoints: &[Endpoint],
    desk: &mut Desk<'_>,
) -> Option<ClientTls> {
    let first = endpoints.first().map(|endpoint| match &endpoint.address {
        EndpointAddress::Ip(address) => address.ip().to_string(),
        EndpointAddress::Dns(name, _) => name.clone(),
    });
    let Some(hostname) = tls.hostname.clone().or(first) else {
        let title = "there is neither `tls.hostname` nor an endpoint to take it from";
        let problem = document.problem(Code::P0108, "spec.tls.hostname", title);
        return desk.refuse(problem.hint("add the name that the certificate is verified against"));
    };
    let written = Written {
        certificate_refs: tls.certificate_refs.as_deref(),
        certificate_file: tls.certificate_file.as_deref(),
        key_file: tls.key_file.as_deref(),
        ca_refs: tls.ca_certificate_refs.as_deref(),
        ca_file: ("caFile", tls.ca_file.as_deref()),
    };
    let material = written.read(document, "spec.tls", desk)?;
    let identity = match (&material.certificate, &material.key) {
        (Some(certificate), Some(key)) => Some((&*certificate.pem, &*key.pem)),
        (None, None) => None,
        _ => {
            let title = "`certificateFile` and `keyFile` belong together";
            let problem = document.problem(Code::P0108, "spec.tls", title);
            return desk.refuse(problem.hint("add the other one"));
        }
    };
    let ca = material.ca.as_ref().map(|ca| &*ca.pem);
    let client = ClientTls::from_pem(&hostname, ca, identity)
        .map_err(|error| desk.problems.push(material.problem(document, "spec.tls", &error)))
        .ok()?;
    if let Some(expires_at) = client.expires_at() {
        material.tell_expired(document, expires_at, desk);
    }
    Some(client)
}
