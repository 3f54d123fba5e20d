//! Attributes that follow from the exchange alone, by Envoy's names. What is not known yet is absent.

use bytes::Bytes;
use http::HeaderMap;

use crate::attributes::{Attribute, Attributes, ConnectionAttributes, TlsAttributes};
use crate::guest::Guest;
use crate::hostcalls::head::View;
use crate::state::{HttpStream, RequestHead, Stream};

/// An attribute that was found.
pub(super) enum Found {
    /// A string that is there already.
    Raw(Bytes),
    /// Anything else.
    Value(Attribute),
}

/// The attribute at `path`.
pub(super) fn attribute(guest: &Guest, path: &[&str]) -> Option<Found> {
    let spec = &guest.spec;
    match path {
        ["plugin_name"] => return text(&spec.name),
        ["plugin_root_id"] => return text(&spec.root_id),
        ["plugin_vm_id"] => return text(&spec.vm_id),
        _ => {}
    }
    let stream = guest.stream()?;
    let known = stream.attributes();
    match path {
        ["listener_direction"] | ["xds", "listener_direction"] => int(known.listener_direction),
        ["route_name"] | ["xds", "route_name"] => text(known.route_name.as_deref()?),
        ["cluster_name"] | ["xds", "cluster_name"] => text(known.cluster_name.as_deref()?),
        ["connection_id"] => value(Attribute::Uint(known.connection.id)),
        ["request", path @ ..] => match stream {
            Stream::Http(stream) => request(stream, path),
            Stream::Tcp(_) => received(known, path),
        },
        ["response", path @ ..] => match stream {
            Stream::Http(stream) => response(stream, path),
            Stream::Tcp(_) => sent(known, path),
        },
        ["source", "address"] => text(&known.client.to_string()),
        ["source", "port"] => int(known.client.port().into()),
        ["destination", "address"] => text(&known.connection.local.to_string()),
        ["destination", "port"] => int(known.connection.local.port().into()),
        ["connection", name] => connection(&known.connection, name),
        ["upstream", name] => upstream(known, name),
        _ => None,
    }
}

fn request(stream: &HttpStream, path: &[&str]) -> Option<Found> {
    let (head, known) = (&stream.request, &stream.attributes);
    let header = |name: &str| head.headers.get(name).map(|value| raw(value.as_bytes()));
    match path {
        ["path"] => Some(Found::Raw(head.path.clone())),
        ["url_path"] => Some(Found::Raw(split_path(head).0)),
        ["query"] => Some(Found::Raw(split_path(head).1)),
        ["host"] => Some(Found::Raw(head.authority.clone())),
        ["scheme"] => Some(Found::Raw(head.scheme.clone())),
        ["method"] => text(head.method.as_str()),
        ["referer"] => header("referer"),
        ["useragent"] => header("user-agent"),
        ["id"] => header("x-request-id"),
        ["protocol"] => text(known.protocol),
        ["time"] => value(Attribute::Timestamp(known.started)),
        ["duration"] => value(Attribute::Duration(known.duration?)),
        ["size"] => int(content_length(&head.headers).unwrap_or(known.request_bytes) as i64),
        ["headers_bytes"] => int(View::Request(head).bytes() as i64),
        ["total_size"] => {
            int((View::Request(head).bytes() as u64).saturating_add(known.request_bytes) as i64)
        }
        ["headers"] => map(&View::Request(head)),
        ["headers", name] => joined(&View::Request(head), name),
        ["trailers"] => map(&View::Fields(stream.request_trailers.as_ref()?)),
        _ => None,
    }
}

fn response(stream: &HttpStream, path: &[&str]) -> Option<Found> {
    let known = &stream.attributes;
    match path {
        ["code_details"] => return text(known.code_details.as_deref()?),
        ["flags"] => return int(known.response_flags as i64),
        _ => {}
    }
    let head = stream.response.as_ref()?;
    let trailers = stream.response_trailers.as_ref();
    let bytes = View::Response(head).bytes() as u64;
    match path {
        ["code"] => int(head.status.as_u16().into()),
        ["grpc_status"] => {
            let status = |fields: &HeaderMap| {
                fields.get("grpc-status")?.to_str().ok()?.trim().parse::<i64>().ok()
            };
            int(trailers.and_then(status).or_else(|| status(&head.headers))?)
        }
        ["headers"] => map(&View::Response(head)),
        ["headers", name] => joined(&View::Response(head), name),
        ["trailers"] => map(&View::Fields(trailers?)),
        ["trailers", name] => joined(&View::Fields(trailers?), name),
        ["headers_bytes"] => int(bytes as i64),
        ["size"] => int(known.response_bytes as i64),
        ["total_size"] => int(bytes.saturating_add(known.response_bytes) as i64),
        _ => None,
    }
}

/// What of `request` a connection without HTTP has, as in Envoy.
fn received(known: &Attributes, path: &[&str]) -> Option<Found> {
    match path {
        ["time"] => value(Attribute::Timestamp(known.started)),
        ["duration"] => value(Attribute::Duration(known.duration?)),
        ["size"] | ["total_size"] => int(known.request_bytes as i64),
        _ => None,
    }
}

/// What of `response` a connection without HTTP has, as in Envoy.
fn sent(known: &Attributes, path: &[&str]) -> Option<Found> {
    match path {
        ["code_details"] => text(known.code_details.as_deref()?),
        ["flags"] => int(known.response_flags as i64),
        ["size"] | ["total_size"] => int(known.response_bytes as i64),
        _ => None,
    }
}

fn connection(connection: &ConnectionAttributes, name: &str) -> Option<Found> {
    let session = connection.tls.as_ref();
    match name {
        "id" => value(Attribute::Uint(connection.id)),
        "mtls" => value(Attribute::Bool(session.is_some_and(|session| session.mutual))),
        "requested_server_name" => text(session?.server_name.as_deref()?),
        _ => tls(session?, name),
    }
}

fn upstream(known: &Attributes, name: &str) -> Option<Found> {
    match name {
        "transport_failure_reason" => return text(known.upstream_failure.as_deref()?),
        "request_attempt_count" => return value(Attribute::Uint(known.attempts)),
        _ => {}
    }
    let connection = known.upstream.as_ref()?;
    match name {
        "address" => text(&connection.peer.to_string()),
        "port" => int(connection.peer.port().into()),
        "local_address" => text(&connection.local.to_string()),
        _ => tls(connection.tls.as_ref()?, name),
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
        _ => None,
    }
}

fn split_path(head: &RequestHead) -> (Bytes, Bytes) {
    match head.path.iter().position(|byte| *byte == b'?') {
        Some(at) => (head.path.slice(..at), head.path.slice(at + 1..)),
        None => (head.path.clone(), Bytes::new()),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Names in lower case; the values of a repeated name joined by commas.
fn map(view: &View<'_>) -> Option<Found> {
    use crate::abi::pairs::Pairs;
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(view.len());
    view.each(&mut |key, value| match entries.last_mut() {
        Some((last, values)) if last == key => {
            values.push(b',');
            values.extend_from_slice(value);
        }
        _ => entries.push((key.to_vec(), value.to_vec())),
    });
    value(Attribute::Map(entries))
}

fn joined(view: &View<'_>, name: &str) -> Option<Found> {
    let mut values = view.fields().get_all(name).iter();
    let Some(first) = values.next() else {
        return view.get(name.as_bytes()).map(|value| raw(value.as_bytes()));
    };
    let mut bytes = first.as_bytes().to_vec();
    for value in values {
        bytes.push(b',');
        bytes.extend_from_slice(value.as_bytes());
    }
    Some(Found::Raw(bytes.into()))
}

fn raw(bytes: &[u8]) -> Found {
    Found::Raw(Bytes::copy_from_slice(bytes))
}

fn text(text: &str) -> Option<Found> {
    Some(raw(text.as_bytes()))
}

fn int(number: i64) -> Option<Found> {
    value(Attribute::Int(number))
}

fn value(value: Attribute) -> Option<Found> {
    Some(Found::Value(value))
}
