//! Heads at the border: what of a client's request is refused or normalised before anything else sees it (RFC 9110, RFC
//! 9112, RFC 9113), and what of a head concerns one connection only.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName,
    HeaderValue, TE, TRAILER, UPGRADE,
};
use http::request::Parts;
use http::{Method, Uri, Version};
use portcullis_vm::RequestHead;

use crate::reply::Failure;

/// What a request's head said about its connection, apart from what it says to the upstream.
#[derive(Debug, Default)]
pub struct Hop {
    /// Wants the connection for this protocol (HTTP/1.1 only).
    pub upgrade: Option<HeaderValue>,
    /// The client takes trailers.
    pub trailers: bool,
}

/// Checks a request's head and brings it into the form that filters and upstreams see. `fault`: what is wrong with its
/// framing.
///
/// # Errors
/// A request that different recipients could read differently, or that is no request to a proxy of this kind. `parts` are
/// as they were then; otherwise the headers are taken out.
pub fn accept(
    parts: &mut Parts,
    fault: Option<String>,
    tls: bool,
) -> Result<(RequestHead, Hop), Failure> {
    let Parts { method, uri, version, headers, .. } = parts;
    let (method, version) = (method.clone(), *version);
    if method == Method::CONNECT {
        return bad("CONNECT is not served");
    }
    if let Some(reason) = fault {
        return Err(Failure::BadRequest(reason));
    }
    let authority = authority(uri, headers, version)?;
    let path = match uri.path_and_query() {
        Some(path) => Bytes::copy_from_slice(path.as_str().as_bytes()),
        None => Bytes::from_static(b"/"),
    };
    if path.first() != Some(&b'/') && !(path == "*" && method == Method::OPTIONS) {
        return bad("the path does not begin with /");
    }
    // The connection says so, whatever the client claims in `:scheme`.
    let scheme = Bytes::from_static(if tls { b"https" } else { b"http" });
    let mut headers = std::mem::take(headers);
    headers.remove(HOST);
    if version == Version::HTTP_2 {
        join_cookies(&mut headers);
    }
    let hop = strip_request(&mut headers, version);
    Ok((RequestHead { method, scheme, authority, path, headers }, hop))
}

/// HTTP/2 clients may send a cookie in several pieces, which nobody else expects: RFC 9113, 8.2.3.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

fn bad<T>(reason: &str) -> Result<T, Failure> {
    Err(Failure::BadRequest(reason.to_owned()))
}

/// The one authority of a request: RFC 9112, 3.2 and RFC 9113, 8.3.1.
fn authority(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Bytes, Failure> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return bad("more than one host header");
    }
    let authority = match (uri.authority(), host) {
        (Some(target), Some(host))
            if !host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes()) =>
        {
            return bad("host header and request target disagree");
        }
        (Some(target), _) => Bytes::copy_from_slice(target.as_str().as_bytes()),
        (None, Some(host)) => Bytes::copy_from_slice(host.as_bytes()),
        (None, None) if version == Version::HTTP_10 => Bytes::new(),
        (None, None) => return bad("no host header"),
    };
    if !authority.iter().copied().all(is_authority_byte) {
        return bad("the host is not valid");
    }
    Ok(authority)
}

/// Host and port of RFC 3986, without user information.
fn is_authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

fn strip_request(headers: &mut HeaderMap, version: Version) -> Hop {
    if !has_hop_by_hop(headers) {
        return Hop::default();
    }
    let upgrade = match version {
        Version::HTTP_11 if has_token(headers, &CONNECTION, "upgrade") => {
            headers.get(UPGRADE).cloned()
        }
        _ => None,
    };
    // An upgrade to h2c is an offer that a proxy may leave alone: RFC 9113 has dropped it.
    let upgrade = upgrade.filter(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"h2c"));
    let hop = Hop { upgrade, trailers: has_token(headers, &TE, "trailers") };
    strip_hop_by_hop(headers);
    hop
}

/// Removes what concerns one connection only: RFC 9110, 7.6.1.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    while let Some(name) = hop_by_hop(headers).cloned() {
        if name == CONNECTION {
            strip_named(headers);
        }
        headers.remove(name);
    }
}

/// Whether there is anything to strip.
pub fn has_hop_by_hop(headers: &HeaderMap) -> bool {
    hop_by_hop(headers).is_some()
}

/// The first field that concerns one connection only, beside what `connection` names; `expect` is answered by us. A look at each
/// name costs less than looking each of ours up.
fn hop_by_hop(headers: &HeaderMap) -> Option<&HeaderName> {
    let ours = |name: &&HeaderName| {
        matches!(
            name.as_str(),
            "connection"
                | "expect"
                | "http2-settings"
                | "keep-alive"
                | "proxy-connection"
                | "te"
                | "transfer-encoding"
                | "upgrade"
        )
    };
    headers.keys().find(ours)
}

/// Removes what `connection` names.
fn strip_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        // By far the most frequent one goes with the fixed names.
        .filter(|token| !token.eq_ignore_ascii_case("keep-alive"))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| !is_end_to_end(name))
        .collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
}

/// Fields that a `connection` header cannot take from the message: without them it would mean something else.
fn is_end_to_end(name: &HeaderName) -> bool {
    [CONTENT_LENGTH, HOST, AUTHORIZATION, COOKIE, CONTENT_TYPE, TRAILER].contains(name)
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}
