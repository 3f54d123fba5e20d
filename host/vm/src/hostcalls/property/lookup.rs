//! Attributes that follow from the exchange alone, by Envoy's names. What is not known yet, or has no counterpart here,
//! is absent; docs/attributes.md says which.

use super::connection::{connection, upstream};
use super::found::{EMPTY, Found, int, name, no_entries, value};
use super::http::{received, request, response, sent};
use crate::attributes::{Attribute, Attributes};
use crate::guest::Guest;
use crate::state::Stream;

/// The attribute at `path`.
pub(super) fn attribute(guest: &Guest, path: &[&str]) -> Option<Found> {
    let spec = &guest.spec;
    match path {
        ["plugin_name"] => return name(Some(&spec.name)),
        ["plugin_root_id"] => return Some(Found::copy(spec.root_id.as_bytes())),
        ["plugin_vm_id"] => return Some(Found::copy(spec.vm_id.as_bytes())),
        _ => {}
    }
    let stream = guest.stream()?;
    let known = stream.attributes();
    match path {
        ["request", path @ ..] => match stream {
            Stream::Http(stream) => request(stream, path),
            Stream::Tcp(_) => received(known, path),
        },
        ["response", path @ ..] => match stream {
            Stream::Http(stream) => response(stream, path),
            Stream::Tcp(_) => sent(known, path),
        },
        ["source", "address"] => Some(Found::written(known.client)),
        ["source", "port"] => int(known.client.port().into()),
        ["destination", "address"] => Some(Found::written(known.connection.local)),
        ["destination", "port"] => int(known.connection.local.port().into()),
        ["connection", name] => connection(&known.connection, name),
        ["connection_id"] => value(Attribute::Uint(known.connection.id)),
        ["upstream", path @ ..] => upstream(known, path),
        ["metadata"] => Some(EMPTY),
        ["metadata", "filter_metadata" | "typed_filter_metadata"] => no_entries(),
        ["filter_state"] => value(Attribute::Map(
            stream.filter_state().iter().map(|s| (s.name().to_vec(), s.value().to_vec())).collect(),
        )),
        ["upstream_filter_state"] => no_entries(),
        ["xds", "filter_chain_name"] => name(known.listener.as_ref()),
        ["xds", "virtual_host_name"] => name(known.virtual_host.as_ref()),
        ["xds", path @ ..] => mesh(known, path).or_else(|| metadata(known, path)),
        _ => mesh(known, path).or_else(|| metadata(known, path)),
    }
}

/// Whether `path` is an object of which Envoy gives the parts only.
pub(super) fn is_object(path: &[&str]) -> bool {
    const OBJECTS: [&str; 7] =
        ["request", "response", "connection", "upstream", "source", "destination", "xds"];
    matches!(path, [root] if OBJECTS.contains(root))
}

/// What stands under `xds.`, and under its old name without it.
fn mesh(known: &Attributes, path: &[&str]) -> Option<Found> {
    match path {
        ["listener_direction"] => int(known.listener_direction),
        ["route_name"] => name(known.route_name.as_ref()),
        ["cluster_name"] => name(known.cluster_name.as_ref()),
        _ => None,
    }
}

/// Metadata of what the configuration names. Documents here have none, so what exists has an empty message.
fn metadata(known: &Attributes, path: &[&str]) -> Option<Found> {
    let exists = match *path.first()? {
        "listener_metadata" => true,
        "cluster_metadata" => known.cluster_name.is_some(),
        "route_metadata" | "virtual_host_metadata" => known.route_name.is_some(),
        "upstream_host_metadata" | "upstream_host_locality_metadata" => known.upstream.is_some(),
        _ => false,
    };
    match &path[1..] {
        [] if exists => Some(EMPTY),
        ["filter_metadata" | "typed_filter_metadata"] if exists => no_entries(),
        _ => None,
    }
}
