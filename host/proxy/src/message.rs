//! Requests and responses on their way through: hyper's kinds, whose fields are a hash table, end where HTTP/2 ends.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Method, StatusCode, Uri, Version};
use portcullis_vm::{Fields, RequestHead, ResponseHead};

use crate::body::Body;

/// A client's request as it came.
#[derive(Debug)]
pub struct Request {
    /// Of the target: its authority, which HTTP/1 mostly leaves to `host`, its path and query; each empty if it has none.
    /// Without a scheme; with `host`, and all fields that concern its connection only.
    pub head: Arc<RequestHead>,
    /// Of the protocol that it came by.
    pub version: Version,
}

impl Request {
    /// With the authority and the path of its target.
    pub fn new(
        method: Method,
        (authority, path): (Bytes, Bytes),
        version: Version,
        headers: Fields,
    ) -> Request {
        let scheme = Bytes::new();
        Request {
            head: Arc::new(RequestHead { method, scheme, authority, path, headers }),
            version,
        }
    }
}

impl From<Parts> for Request {
    fn from(parts: Parts) -> Request {
        let headers = Fields::from(&parts.headers);
        Request::new(parts.method, target(&parts.uri), parts.version, headers)
    }
}

/// Authority and path of a target, empty where it has none.
pub fn target(uri: &Uri) -> (Bytes, Bytes) {
    let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let authority = uri.authority().map_or_else(Bytes::new, |authority| copy(authority.as_str()));
    (authority, uri.path_and_query().map_or_else(Bytes::new, |path| copy(path.as_str())))
}

/// Whether a target is a path, and one of characters that a URI can hold anywhere behind its authority (RFC 3986, 3.3 and
/// 3.4). Others may be fine as well, which takes a closer look.
pub fn is_plain_path(target: &[u8]) -> bool {
    target.first() == Some(&b'/') && path_length(target) == target.len()
}

/// How many characters there are at the beginning that a URI can hold anywhere behind its authority.
pub fn path_length(target: &[u8]) -> usize {
    target.iter().take_while(|byte| PATH[usize::from(**byte)]).count()
}

/// Whether these are bytes of host and port (RFC 3986, 3.2), without user information.
pub fn is_authority(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| AUTHORITY[usize::from(*byte)])
}

const PATH: [bool; 256] = characters(b"-._~%!$&'()*+,;=:@/?");
const AUTHORITY: [bool; 256] = characters(b"-._~%!$&'()*+,;=:[]");

/// Letters, digits and these.
const fn characters(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x7f {
        table[byte as usize] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

/// A response, from an upstream or of ours.
#[derive(Debug)]
pub struct Response<B> {
    /// Status and fields.
    pub head: ResponseHead,
    /// What follows.
    pub body: B,
}

impl<B> Response<B> {
    /// Without fields.
    pub fn new(status: StatusCode, body: B) -> Response<B> {
        Response { head: ResponseHead { status, headers: Fields::default() }, body }
    }

    /// Sets a field of ours, if there is room for it, and its value, which may come from elsewhere, is one.
    pub fn set(&mut self, name: HeaderName, value: impl AsRef<[u8]>) {
        if let Err(refused) = self.head.headers.insert(&name, value) {
            tracing::debug!(%name, "a response goes without a header: {refused}");
        }
    }

    /// With another body.
    pub fn map<T>(self, body: impl FnOnce(B) -> T) -> Response<T> {
        Response { head: self.head, body: body(self.body) }
    }
}

impl<B> From<http::Response<B>> for Response<B> {
    fn from(response: http::Response<B>) -> Response<B> {
        let (parts, body) = response.into_parts();
        let headers = Fields::from(&parts.headers);
        Response { head: ResponseHead { status: parts.status, headers }, body }
    }
}

impl From<Response<Body>> for http::Response<Body> {
    fn from(response: Response<Body>) -> http::Response<Body> {
        let Response { head, body } = response;
        let mut response = http::Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = (&head.headers).into();
        response
    }
}
