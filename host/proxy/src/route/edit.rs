//! What the standard filters of a rule make of a head: header modifiers, rewrites, and the location of a redirect.

use bytes::{Bytes, BytesMut};
use http::HeaderName;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use portcullis_vm::{Fields, Refused, RequestHead};

use super::host::without_port;
use super::pattern::split_path;
use crate::snapshot::{HeaderModifier, PathModifier, Redirect, Rewrite};

/// What frames a message or concerns one connection; no modifier touches it.
const FRAMING: [HeaderName; 5] = [CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE];

/// Edits headers: set, then add, then remove. Those that frame the message are left alone.
///
/// # Errors
/// The head is full; what came before stays done.
pub fn apply(modifier: &HeaderModifier, headers: &mut Fields) -> Result<(), Refused> {
    let is_free = |name: &&HeaderName| !FRAMING.contains(name);
    for (name, value) in modifier.set.iter().filter(|(name, _)| is_free(&name)) {
        headers.insert(name, value)?;
    }
    for (name, value) in modifier.add.iter().filter(|(name, _)| is_free(&name)) {
        headers.append(name, value)?;
    }
    for name in modifier.remove.iter().filter(is_free) {
        headers.remove(name);
    }
    Ok(())
}

/// As [`apply`]; `host` means the authority, which can be replaced but not removed.
///
/// # Errors
/// As [`apply`].
pub fn apply_to_request(modifier: &HeaderModifier, head: &mut RequestHead) -> Result<(), Refused> {
    apply(modifier, &mut head.headers)?;
    if let Some(host) = head.headers.get(HOST) {
        head.authority = Bytes::copy_from_slice(host);
        head.headers.remove(HOST);
    }
    Ok(())
}

/// Replaces host and path; `prefix` is that of [`Selected`](super::Selected).
pub fn rewrite(rewrite: &Rewrite, head: &mut RequestHead, prefix: &[u8]) {
    if let Some(hostname) = &rewrite.hostname {
        head.authority = Bytes::copy_from_slice(hostname.as_bytes());
    }
    if let Some(path) = &rewrite.path {
        head.path = replace_path(path, &head.path, prefix);
    }
}

/// The `location` of a redirect. `listener_port` is used where neither the redirect's port nor its scheme says another;
/// the scheme's own port is left out.
pub fn location(
    redirect: &Redirect,
    head: &RequestHead,
    prefix: &[u8],
    listener_port: u16,
) -> Bytes {
    let scheme = redirect.scheme.as_ref().map_or(head.scheme.as_ref(), |scheme| scheme.as_bytes());
    let host = match &redirect.hostname {
        Some(hostname) => hostname.as_bytes(),
        None => without_port(&head.authority),
    };
    let own_port = match scheme {
        b"https" => 443,
        _ => 80,
    };
    let port = redirect.port.unwrap_or(match redirect.scheme {
        Some(_) => own_port,
        None => listener_port,
    });
    let mut location = BytesMut::with_capacity(scheme.len() + host.len() + head.path.len() + 9);
    location.extend_from_slice(scheme);
    location.extend_from_slice(b"://");
    location.extend_from_slice(host);
    if port != own_port {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    let path = match &redirect.path {
        Some(path) => replace_path(path, &head.path, prefix),
        None => head.path.clone(),
    };
    if !path.starts_with(b"/") {
        // Otherwise a path such as `@example.com` would become the host.
        location.extend_from_slice(b"/");
    }
    location.extend_from_slice(&path);
    location.freeze()
}

/// The query stays. A path that a filter has moved out of the matched prefix stays as well.
fn replace_path(modifier: &PathModifier, target: &Bytes, prefix: &[u8]) -> Bytes {
    let (path, _) = split_path(target);
    let query = &target[path.len()..];
    let (replacement, rest) = match modifier {
        PathModifier::Full(full) => (full.as_str(), &[][..]),
        PathModifier::Prefix(replacement) => match path.strip_prefix(prefix) {
            Some(rest) => (replacement.trim_end_matches('/'), rest),
            None => return target.clone(),
        },
    };
    let mut replaced = BytesMut::with_capacity(replacement.len() + rest.len() + query.len() + 1);
    replaced.extend_from_slice(replacement.as_bytes());
    replaced.extend_from_slice(rest);
    if replaced.is_empty() {
        replaced.extend_from_slice(b"/");
    }
    replaced.extend_from_slice(query);
    replaced.freeze()
}
