//! From the exchange's head to what is sent: lines in origin form with `host` for HTTP/1, a request in absolute form for HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::{Authority, Parts, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};
use portcullis_vm::RequestHead;

use super::SendOptions;
use crate::body::Body;
use crate::http1::{Framing, number, write_field};
use crate::reply::Dialect;

/// Fields that are written by themselves.
const OURS: [HeaderName; 5] = [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE];

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

    pub(super) fn method(&self) -> &Method {
        &self.head.method
    }

    /// Writes the head, and says how the body is to follow.
    ///
    /// # Errors
    /// The authority cannot be expressed, or the length is none.
    pub(super) fn http1(
        &self,
        out: &mut Vec<u8>,
        endpoint: SocketAddr,
        body: &Body,
    ) -> Result<Framing, String> {
        let host = HeaderValue::from_maybe_shared(self.authority(endpoint))
            .map_err(|problem| self.bad_authority(problem))?;
        let headers = &self.head.headers;
        out.extend_from_slice(self.head.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.path.as_str().as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        write_field(out, &HOST, &host);
        for (name, value) in headers.iter().filter(|(name, _)| !OURS.contains(name)) {
            write_field(out, name, value);
        }
        if let Some(protocol) = self.upgrade {
            write_field(out, &CONNECTION, &HeaderValue::from_static("upgrade"));
            write_field(out, &UPGRADE, protocol);
        }
        let framing = self.framing(out, body)?;
        out.extend_from_slice(b"\r\n");
        Ok(framing)
    }

    fn framing(&self, out: &mut Vec<u8>, body: &Body) -> Result<Framing, String> {
        let headers = &self.head.headers;
        let trailers = headers.contains_key(TRAILER);
        let said = headers.get(CONTENT_LENGTH);
        let (length, said) = match (body, said) {
            (Body::Full(bytes), _) => {
                let length = bytes.len() as u64;
                (length, Some(HeaderValue::from(length)))
            }
            // Only a chunked body has trailers.
            (Body::Stream(_), _) if trailers => return Ok(self.chunked(out)),
            (Body::Stream(_), None) => return Ok(self.chunked(out)),
            (Body::Stream(_) | Body::Empty, Some(said)) => {
                let length = number(said.as_bytes());
                let length =
                    length.ok_or_else(|| format!("content-length {said:?} is no number"))?;
                (length, Some(said.clone()))
            }
            (Body::Empty, None) => (0, None),
        };
        if let Some(said) = said {
            write_field(out, &CONTENT_LENGTH, &said);
        }
        Ok(Framing::Length(length))
    }

    fn chunked(&self, out: &mut Vec<u8>) -> Framing {
        write_field(out, &TRANSFER_ENCODING, &HeaderValue::from_static("chunked"));
        Framing::Chunked(self.head.headers.get_all(TRAILER).iter().cloned().collect())
    }

    /// # Errors
    /// The authority cannot be expressed, or there are too many fields.
    pub(super) fn http2(&self, endpoint: SocketAddr) -> Result<Request<()>, String> {
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
