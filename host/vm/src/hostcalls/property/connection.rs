//! `connection.*` and `upstream.*`: addresses, certificates, how the upstream was reached.

use std::fmt::Write;

use super::found::{EMPTY, Found, int, text, value};
use crate::attributes::{Attribute, Attributes, ConnectionAttributes, TlsAttributes};

pub(super) fn connection(connection: &ConnectionAttributes, name: &str) -> Option<Found> {
    let session = connection.tls.as_deref();
    match name {
        "id" => value(Attribute::Uint(connection.id)),
        "mtls" => value(Attribute::Bool(session.is_some_and(|session| session.mutual))),
        "requested_server_name" => {
            text(session.and_then(|session| session.server_name.as_deref()).unwrap_or_default())
        }
        _ => tls(session?, name),
    }
}

pub(super) fn upstream(known: &Attributes, path: &[&str]) -> Option<Found> {
    match path {
        ["transport_failure_reason"] if known.attempts > 0 => {
            return text(known.upstream_failure.as_deref().unwrap_or_default());
        }
        ["request_attempt_count"] => return value(Attribute::Uint(known.attempts)),
        ["num_endpoints"] => return value(Attribute::Uint(known.endpoints?)),
        ["cx_pool_ready_duration"] => return value(Attribute::Duration(known.pool_ready?)),
        _ => {}
    }
    let connection = known.upstream.as_ref()?;
    match path {
        ["address"] => Some(Found::written(connection.peer)),
        ["port"] => int(connection.peer.port().into()),
        ["local_address"] => Some(Found::written(connection.local)),
        ["locality"] | ["locality", "region" | "zone" | "sub_zone"] => Some(EMPTY),
        [name] => tls(connection.tls.as_ref()?, name),
        _ => None,
    }
}

/// A certificate may bear several names; Envoy gives the first.
fn tls(session: &TlsAttributes, name: &str) -> Option<Found> {
    match name {
        // Not known of a session that is only passed on.
        "tls_version" if session.version.is_empty() => None,
        "tls_version" => text(&session.version),
        "subject_peer_certificate" => text(session.peer_subject.as_deref()?),
        "subject_local_certificate" => text(session.local_subject.as_deref()?),
        "dns_san_peer_certificate" => text(session.peer_dns_names.first()?),
        "dns_san_local_certificate" => text(session.local_dns_names.first()?),
        "uri_san_peer_certificate" => text(session.peer_uris.first()?),
        "uri_san_local_certificate" => text(session.local_uris.first()?),
        "sha256_peer_certificate_digest" => text(session.peer_digest.as_deref()?),
        "peer_certificate" => text(&pem(session.peer_certificate.as_ref()?)),
        _ => None,
    }
}

/// A certificate as PEM (RFC 7468), URL-encoded as Envoy does it.
fn pem(der: &[u8]) -> String {
    let mut text = "-----BEGIN%20CERTIFICATE-----%0A".to_owned();
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            base64(three, &mut text);
        }
        text.push_str("%0A");
    }
    text.push_str("-----END%20CERTIFICATE-----%0A");
    text
}

/// One to three bytes as four letters (RFC 4648), URL-encoded.
fn base64(bytes: &[u8], text: &mut String) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let byte = |at: usize| bytes.get(at).copied().map_or(0, u32::from);
    let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    for at in 0..4 {
        let letter = match at <= bytes.len() {
            true => LETTERS[(bits >> (18 - 6 * at)) as usize & 63],
            false => b'=',
        };
        let _ = match letter {
            b'+' | b'/' | b'=' => write!(text, "%{letter:02X}"),
            plain => write!(text, "{}", char::from(plain)),
        };
    }
}
