//! One listener of a Proxy: where it is, what it speaks, and its certificates.

use std::sync::Arc;

use portcullis_proxy::snapshot::{Listener, ListenerDirection, ListenerProtocol};
use portcullis_proxy::tls::ServerTls;

use super::desk::Desk;
use super::material::Written;
use super::proxy::socket;
use crate::diagnose::Code;
use crate::spec::Document;
use crate::spec::own::{self, Direction, ListenerSpec, ListenerTls, TlsMode};

/// What a listener speaks, and inside which TLS.
type Speech = (ListenerProtocol, Option<Arc<ServerTls>>);

/// The listener, without its filters.
pub(super) fn compile(
    document: &Document,
    field: &str,
    spec: &ListenerSpec,
    desk: &mut Desk<'_>,
) -> Option<Listener> {
    let address = socket(document, &format!("{field}.address"), &spec.address, desk);
    let (protocol, tls) = speech(document, &format!("{field}.tls"), spec, desk)?;
    if protocol != ListenerProtocol::Http && spec.trusted_hops > 0 {
        let field = format!("{field}.trustedHops");
        let title = "`trustedHops` has no effect on a listener without HTTP";
        let problem = document.problem(Code::P0117, &field, title).warning();
        let cause = "it counts entries of x-forwarded-for, a header of HTTP";
        desk.problems.push(problem.because(cause).hint("remove it"));
    }
    Some(Listener {
        name: spec.name.clone(),
        address: address?,
        direction: match spec.direction {
            Direction::Inbound => ListenerDirection::Inbound,
            Direction::Outbound => ListenerDirection::Outbound,
            Direction::Gateway => ListenerDirection::Gateway,
        },
        protocol,
        tls,
        trusted_hops: spec.trusted_hops as usize,
        filters: Vec::new(),
    })
}

fn speech(
    document: &Document,
    field: &str,
    spec: &ListenerSpec,
    desk: &mut Desk<'_>,
) -> Option<Speech> {
    let unencrypted = |name: &str, instead: &str, desk: &mut Desk<'_>| {
        let title = format!("{name} listener has no `tls`");
        let problem = document.problem(Code::P0111, field, title);
        desk.refuse(problem.hint(format!("use protocol: {instead}, or remove it")))
    };
    let missing = |name: &str, files: &str, desk: &mut Desk<'_>| {
        let problem = document.problem(Code::P0108, field, format!("{name} listener needs `tls`"));
        desk.refuse(problem.hint(format!("add tls: {{{files}}}")))
    };
    let files = "certificateFile: …, keyFile: …";
    match (spec.protocol, &spec.tls) {
        (own::ListenerProtocol::Http, None) => Some((ListenerProtocol::Http, None)),
        (own::ListenerProtocol::Http, Some(_)) => unencrypted("an HTTP", "HTTPS", desk),
        (own::ListenerProtocol::Tcp, None) => Some((ListenerProtocol::Tcp, None)),
        (own::ListenerProtocol::Tcp, Some(_)) => unencrypted("a TCP", "TLS", desk),
        (own::ListenerProtocol::Https, None) => missing("an HTTPS", files, desk),
        (own::ListenerProtocol::Tls, None) => {
            missing("a TLS", &format!("{files}}} or {{mode: Passthrough"), desk)
        }
        (own::ListenerProtocol::Https, Some(tls)) if tls.mode == TlsMode::Passthrough => {
            let title = "an HTTPS listener terminates TLS";
            let problem = document.problem(Code::P0111, &format!("{field}.mode"), title);
            desk.refuse(problem.hint("use protocol: TLS to pass it on, or remove it"))
        }
        (own::ListenerProtocol::Https, Some(tls)) => {
            let tls = server_tls(document, field, tls, desk)?;
            Some((ListenerProtocol::Http, Some(Arc::new(tls))))
        }
        (own::ListenerProtocol::Tls, Some(tls)) if tls.mode == TlsMode::Passthrough => {
            passthrough(document, field, tls, desk)
        }
        (own::ListenerProtocol::Tls, Some(tls)) => {
            let tls = server_tls(document, field, tls, desk)?.for_bytes();
            Some((ListenerProtocol::Tcp, Some(Arc::new(tls))))
        }
    }
}

/// What is passed on is for the upstream to prove and to verify.
fn passthrough(
    document: &Document,
    field: &str,
    tls: &ListenerTls,
    desk: &mut Desk<'_>,
) -> Option<Speech> {
    let fields = [
        ("certificateRefs", tls.certificate_refs.is_some()),
        ("certificateFile", tls.certificate_file.is_some()),
        ("keyFile", tls.key_file.is_some()),
        ("clientCaFile", tls.client_ca_file.is_some()),
        ("caCertificateRefs", tls.ca_certificate_refs.is_some()),
    ];
    let mut right = true;
    for (name, _) in fields.iter().filter(|(_, there)| *there) {
        let title = format!("TLS that is passed on has no use for `{name}`");
        let problem = document.problem(Code::P0111, &format!("{field}.{name}"), title);
        desk.problems.push(problem.hint("remove it, or use mode: Terminate"));
        right = false;
    }
    right.then_some((ListenerProtocol::Passthrough, None))
}

fn server_tls(
    document: &Document,
    field: &str,
    tls: &ListenerTls,
    desk: &mut Desk<'_>,
) -> Option<ServerTls> {
    if tls.certificate_refs.is_none() {
        needed(document, field, ("certificateFile", &tls.certificate_file), desk);
        needed(document, field, ("keyFile", &tls.key_file), desk);
    }
    let written = Written {
        certificate_refs: tls.certificate_refs.as_deref(),
        certificate_file: tls.certificate_file.as_deref(),
        key_file: tls.key_file.as_deref(),
        ca_refs: tls.ca_certificate_refs.as_deref(),
        ca_file: ("clientCaFile", tls.client_ca_file.as_deref()),
    };
    let material = written.read(document, field, desk)?;
    let (certificate, key) = (material.certificate.as_ref()?, material.key.as_ref()?);
    let ca = material.ca.as_ref().map(|ca| &*ca.pem);
    let tls = ServerTls::from_pem(&certificate.pem, &key.pem, ca)
        .map_err(|error| desk.problems.push(material.problem(document, field, &error)))
        .ok()?;
    material.tell_expired(document, tls.expires_at(), desk);
    Some(tls)
}

fn needed(
    document: &Document,
    field: &str,
    (name, path): (&str, &Option<String>),
    desk: &mut Desk<'_>,
) {
    if path.is_none() {
        let field = format!("{field}.{name}");
        let title = format!("the field `{name}` is missing");
        let problem = document.problem(Code::P0108, &field, title);
        desk.problems.push(problem.hint(format!("add `{name}:` here")));
    }
}
