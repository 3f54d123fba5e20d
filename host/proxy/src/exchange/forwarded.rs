//! The headers by which a proxy tells what it knows of the client: `x-forwarded-for`, `x-forwarded-proto`, and the
//! `x-request-id` that ties log lines together.

use std::net::{IpAddr, SocketAddr};

use http::header::HeaderValue;
use portcullis_vm::Fields;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const REQUEST_ID: &str = "x-request-id";

/// Adds the peer, the scheme and a request id; returns the client's address. With no trusted hops, what the client
/// itself claims counts for nothing: scheme and id are replaced, and the client is the peer.
pub fn stamp(
    headers: &mut Fields,
    peer: SocketAddr,
    name: &HeaderValue,
    scheme: &'static str,
    trusted_hops: usize,
) -> SocketAddr {
    let client = client_address(headers, peer, trusted_hops);
    let trusted = trusted_hops > 0;
    append_peer(headers, name);
    if !(trusted && headers.contains(FORWARDED_PROTO)) {
        replace(headers, FORWARDED_PROTO, scheme.as_bytes());
    }
    if !(trusted && headers.contains(REQUEST_ID)) {
        replace(headers, REQUEST_ID, &request_id());
    }
    client
}

/// The entry that the outermost trusted proxy has written, counted from the right; the peer where there is none.
fn client_address(headers: &Fields, peer: SocketAddr, trusted_hops: usize) -> SocketAddr {
    if trusted_hops == 0 {
        return peer;
    }
    let entries: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let entry = entries.len().checked_sub(trusted_hops).and_then(|index| entries.get(index));
    match entry.and_then(|entry| parse_address(entry)) {
        Some(address) => address,
        None => peer,
    }
}

/// An address, possibly with a port; without one the port is 0.
fn parse_address(entry: &str) -> Option<SocketAddr> {
    if let Ok(ip) = entry.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, 0));
    }
    entry.parse().ok()
}

/// How a peer is named in `x-forwarded-for`.
pub fn name_of(peer: IpAddr) -> HeaderValue {
    // Made once for each connection; its clones share the text.
    HeaderValue::try_from(peer.to_canonical().to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn append_peer(headers: &mut Fields, peer: &HeaderValue) {
    if !headers.contains(FORWARDED_FOR) {
        return replace(headers, FORWARDED_FOR, peer.as_bytes());
    }
    let mut line = Vec::new();
    for value in headers.get_all(FORWARDED_FOR) {
        line.extend_from_slice(value);
        line.extend_from_slice(b", ");
    }
    line.extend_from_slice(peer.as_bytes());
    replace(headers, FORWARDED_FOR, &line);
}

/// A random UUID (RFC 9562, version 4).
fn request_id() -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    /// Where each byte stands.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let random = fastrand::u128(..);
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut text = [b'-'; 36];
    for (byte, at) in bits.to_be_bytes().into_iter().zip(PLACES) {
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 0xf)];
    }
    text
}

/// A head that is full keeps what it has: the request then goes on without our header.
fn replace(headers: &mut Fields, name: &'static str, value: &[u8]) {
    let replaced = match headers.contains(name) {
        true => headers.insert(name, value),
        false => headers.append_own(name, value),
    };
    if let Err(refused) = replaced {
        tracing::debug!(name, "{refused}");
    }
}
