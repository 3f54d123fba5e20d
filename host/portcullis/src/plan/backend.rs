//! Backends: endpoints, protocol, TLS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis_proxy::snapshot::{
    Backend, BackendIndex, BackendProtocol, Endpoint, EndpointAddress,
};
use portcullis_proxy::tls::ClientTls;

use super::catalogue::Catalogue;
use super::desk::Desk;
use super::proxy::{tell_expired, tls_problem};
use super::words;
use crate::diagnose::Code;
use crate::spec::own::{self, BackendSpec, BackendTls};
use crate::spec::{Document, Object};

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

fn one(document: &Document, spec: &BackendSpec, desk: &mut Desk<'_>) -> Option<Backend> {
    let protocol = match spec.protocol {
        own::BackendProtocol::Http => Some(BackendProtocol::Http),
        own::BackendProtocol::H2c => Some(BackendProtocol::H2c),
        own::BackendProtocol::Https => Some(BackendProtocol::Https),
        own::BackendProtocol::H2 => Some(BackendProtocol::H2),
        own::BackendProtocol::Tcp | own::BackendProtocol::Redis => {
            let title = "this protocol is not supported yet";
            let problem = document.problem(Code::P0110, "spec.protocol", title);
            desk.refuse(problem.hint("use HTTP, H2C, HTTPS or H2"))
        }
    };
    let endpoints: Vec<Option<Endpoint>> =
        (0..spec.endpoints.len()).map(|index| endpoint(document, index, spec, desk)).collect();
    let endpoints = endpoints.into_iter().collect::<Option<Vec<_>>>();
    let (protocol, endpoints) = (protocol?, endpoints?);
    let encrypted = matches!(protocol, BackendProtocol::Https | BackendProtocol::H2);
    let tls = match (&spec.tls, encrypted) {
        (Some(_), false) => {
            let title = "this protocol is not encrypted, and has no `tls`";
            let problem = document.problem(Code::P0111, "spec.tls", title);
            return desk.refuse(problem.hint("use protocol: HTTPS or H2, or remove it"));
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
    let mut file = |name: &str, path: &Option<String>| -> Result<Option<Bytes>, ()> {
        let Some(path) = path else { return Ok(None) };
        desk.file(document, &format!("spec.tls.{name}"), path).map(Some).ok_or(())
    };
    let ca = file("caFile", &tls.ca_file);
    let certificate = file("certificateFile", &tls.certificate_file);
    let key = file("keyFile", &tls.key_file);
    let (ca, certificate, key) = (ca.ok()?, certificate.ok()?, key.ok()?);
    let identity = match (&certificate, &key) {
        (Some(certificate), Some(key)) => Some((certificate.as_ref(), key.as_ref())),
        (None, None) => None,
        _ => {
            let title = "`certificateFile` and `keyFile` belong together";
            let problem = document.problem(Code::P0108, "spec.tls", title);
            return desk.refuse(problem.hint("add the other one"));
        }
    };
    let client = ClientTls::from_pem(&hostname, ca.as_deref(), identity)
        .map_err(|error| desk.problems.push(tls_problem(document, "spec.tls", "caFile", &error)))
        .ok()?;
    if let Some(expires_at) = client.expires_at() {
        tell_expired(document, "spec.tls", expires_at, desk);
    }
    Some(client)
}
