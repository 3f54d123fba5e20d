//! Heads at the border: what of a client's request is refused or normalised before anything else sees it (RFC 9110, RFC
//! 9112, RFC 9113), and what of a head concerns one connection only.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue,
    TE, TRAILER, UPGRADE,
};
use http::{Method, Version};
use portcullis_vm::{Fields, Names, RequestHead};

use crate::http1::elements;
use crate::message::is_authority;
use crate::reply::Failure;

/// What a request's head said about its connection, apart from what it says to the upstream.
#[derive(Debug, Default)]
pub struct Hop {
    /// Wants the connection for this protocol (HTTP/1.1 only).
    pub upgrade: Option<Box<HeaderValue>>,
    /// The client takes trailers.
    pub trailers: bool,
}

/// Checks a request's head and brings it into the form that filters and upstreams see. `fault`: what is wrong with its
/// framing.
///
/// # Errors
/// A request that different recipients could read differently, or that is no request to a proxy of this kind. It is
/// as it was then.
pub fn accept(
    head: &mut RequestHead,
    version: Version,
    fault: Option<String>,
    tls: bool,
) -> Result<Hop, Failure> {
    if head.method == Method::CONNECT {
        return bad("CONNECT is not served");
    }
    if let Some(reason) = fault {
        return Err(Failure::BadRequest(reason));
    }
    let host = host(head, version)?;
    match &head.path[..] {
        [] | [b'/', ..] => {}
        b"*" if head.method == Method::OPTIONS => {}
        _ => return bad("the path does not begin with /"),
    }
    // The connection says so, whatever the client claims in `:scheme`.
    head.scheme = Bytes::from_static(if tls { b"https" } else { b"http" });
    if let Some(host) = host {
        head.authority = host;
    }
    if head.path.is_empty() {
        head.path = Bytes::from_static(b"/");
    }
    head.headers.remove(HOST);
    if version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    Ok(strip_request(&mut head.headers, version))
}

/// HTTP/2 clients may send a cookie in several pieces, which nobody else expects: RFC 9113, 8.2.3.
fn join_cookies(headers: &mut Fields) {
    let crumbs: Vec<&[u8]> = headers.get_all(&COOKIE).collect();
    if crumbs.len() > 1 {
        let cookie = crumbs.join(&b"; "[..]);
        let _fits = headers.insert(COOKIE, cookie);
    }
}

fn bad<T>(reason: &str) -> Result<T, Failure> {
    Err(Failure::BadRequest(reason.to_owned()))
}

/// The authority of a request whose target has none. A request has one: RFC 9112, 3.2 and RFC 9113, 8.3.1.
fn host(head: &RequestHead, version: Version) -> Result<Option<Bytes>, Failure> {
    let mut hosts = head.headers.get_all(&HOST);
    let host = hosts.next();
    if hosts.next().is_some() {
        return bad("more than one host header");
    }
    let authority = match (&head.authority[..], host) {
        ([], Some(host)) => host,
        ([], None) if version == Version::HTTP_10 => &[],
        ([], None) => return bad("no host header"),
        (target, Some(host)) if !host.eq_ignore_ascii_case(target) => {
            return bad("host header and request target disagree");
        }
        (target, _) => target,
    };
    if !is_authority(authority) {
        return bad("the host is not valid");
    }
    Ok(head.authority.is_empty().then(|| Bytes::copy_from_slice(authority)))
}

fn strip_request(headers: &mut Fields, version: Version) -> Hop {
    if !has_hop_by_hop(headers) {
        return Hop::default();
    }
    let upgrade = match version {
        Version::HTTP_11 if has_token(headers, &CONNECTION, "upgrade") => {
            headers.get(UPGRADE).and_then(|value| HeaderValue::from_bytes(value).ok())
        }
        _ => None,
    };
    // An upgrade to h2c is an offer that a proxy may leave alone: RFC 9113 has dropped it.
    let upgrade = upgrade.filter(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"h2c"));
    let hop = Hop { upgrade: upgrade.map(Box::new), trailers: has_token(headers, &TE, "trailers") };
    strip_hop_by_hop(headers);
    hop
}

/// Removes what concerns one connection only: RFC 9110, 7.6.1.
pub fn strip_hop_by_hop(headers: &mut Fields) {
    if !has_hop_by_hop(headers) {
        return;
    }
    let connection = headers.get_all(&CONNECTION).collect::<Vec<_>>().join(&b","[..]);
    let connection = connection.to_ascii_lowercase();
    let mut named: Vec<&[u8]> = elements(&connection).collect();
    named.sort_unstable();
    let is_named = |name: &[u8]| named.binary_search(&name).is_ok();
    headers
        .retain(|name, _| !HOP_BY_HOP.contains(name) && (is_end_to_end(name) || !is_named(name)));
}

/// Whether there is anything to strip: what `connection` names is only where there is one.
pub fn has_hop_by_hop(headers: &Fields) -> bool {
    headers.contains_any(&HOP_BY_HOP)
}

/// Fields that concern one connection only, beside what `connection` names; `expect` is answered by us.
const HOP_BY_HOP: Names = Names::new(&[
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
]);

/// Fields that a `connection` header cannot take from the message: without them it would mean something else.
fn is_end_to_end(name: &[u8]) -> bool {
    let kept = [CONTENT_LENGTH, HOST, AUTHORIZATION, COOKIE, CONTENT_TYPE, TRAILER];
    kept.iter().any(|kept| kept.as_str().as_bytes() == name)
}

fn tokens<'a>(headers: &'a Fields, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).flat_map(elements)
}

fn has_token(headers: &Fields, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}
