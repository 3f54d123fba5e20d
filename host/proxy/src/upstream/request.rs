//! From the exchange's head to hyper's request: origin form and `host` for HTTP/1, absolute form for HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, Parts, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};
use portcullis_vm::RequestHead;

use super::SendOptions;
use crate::body::Body;
use crate::reply::Dialect;

/// A head that was found fit to be sent.
#[derive(Debug)]
pub(super) struct Target<'a> {
    head: &'a RequestHead,
    path: PathAndQuery,
    upgrade: Option<&'a HeaderValue>,
}

impl<'a> Target<'a> {
    /// # Errors
    /// Guests and clients can write what no request can say.
    pub(super) fn new(
        head: &'a RequestHead,
        options: &'a SendOptions,
    ) -> Result<Target<'a>, String> {
        if head.method == Method::CONNECT {
            return Err("CONNECT cannot be forwarded".to_owned());
        }
        let path = PathAndQuery::from_maybe_shared(head.path.clone())
            .map_err(|problem| format!("path {:?}: {problem}", lossy(&head.path)))?;
        if !path.as_str().starts_with(['/', '*']) {
            return Err(format!("path {:?} does not start with a slash", path.as_str()));
        }
        Ok(Target { head, path, upgrade: options.upgrade.as_ref() })
    }

    /// # Errors
    /// The authority cannot be expressed; the body goes back.
    pub(super) fn request(
        &self,
        version: Version,
        endpoint: SocketAddr,
        body: Body,
    ) -> Result<Request<Body>, (String, Body)> {
        let written = match version {
            Version::HTTP_2 => self.http2(endpoint),
            _ => self.http1(endpoint, matches!(body, Body::Stream(_))),
        };
        match written {
            Ok(request) => Ok(request.map(|()| body)),
            Err(reason) => Err((reason, body)),
        }
    }

    fn http1(&self, endpoint: SocketAddr, streamed: bool) -> Result<Request<()>, String> {
        let host = HeaderValue::from_maybe_shared(self.authority(endpoint))
            .map_err(|problem| self.bad_authority(problem))?;
        let mut request = Request::new(());
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = Uri::from(self.path.clone());
        let headers = request.headers_mut();
        headers.clone_from(&self.head.headers);
        if headers.contains_key(TRAILER) {
            // Only a chunked body has trailers.
            headers.remove(CONTENT_LENGTH);
        }
        let full = |_| "too many headers".to_owned();
        headers.try_insert(HOST, host).map_err(full)?;
        if streamed && !headers.contains_key(CONTENT_LENGTH) {
            // hyper takes a GET without either to have no body.
            let chunked = HeaderValue::from_static("chunked");
            headers.try_insert(TRANSFER_ENCODING, chunked).map_err(full)?;
        }
        if let Some(protocol) = self.upgrade {
            headers.try_insert(CONNECTION, HeaderValue::from_static("upgrade")).map_err(full)?;
            headers.try_insert(UPGRADE, protocol.clone()).map_err(full)?;
        }
        Ok(request)
    }

    fn http2(&self, endpoint: SocketAddr) -> Result<Request<()>, String> {
        let mut parts = Parts::default();
        let scheme = Scheme::try_from(self.head.scheme.as_ref());
        parts.scheme = Some(scheme.unwrap_or(Scheme::HTTP));
        let authority = Authority::from_maybe_shared(self.authority(endpoint))
            .map_err(|problem| self.bad_authority(problem))?;
        parts.authority = Some(authority);
        parts.path_and_query = Some(self.path.clone());
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = Uri::from_parts(parts).map_err(|problem| problem.to_string())?;
        let headers = request.headers_mut();
        headers.clone_from(&self.head.headers);
        if Dialect::of(headers) == Dialect::Grpc {
            let trailers = HeaderValue::from_static("trailers");
            headers.try_insert(TE, trailers).map_err(|_| "too many headers".to_owned())?;
        }
        Ok(request)
    }

    /// An HTTP/1.0 client may have named none.
    fn authority(&self, endpoint: SocketAddr) -> Bytes {
        match self.head.authority.is_empty() {
            true => Bytes::from(endpoint.to_string()),
            false => self.head.authority.clone(),
        }
    }

    fn bad_authority(&self, problem: impl std::fmt::Display) -> String {
        format!("authority {:?}: {problem}", lossy(&self.head.authority))
    }
}

fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
