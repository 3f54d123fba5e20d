//! From the exchange's head to what is sent: lines in origin form with `host` for HTTP/1, a request in absolute form for HTTP/2.

use std::borrow::Cow;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, Parts, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};
use portcullis_vm::{Names, RequestHead};

use super::SendOptions;
use crate::body::Body;
use crate::http1::{Framing, announced, number, write_field};
use crate::message::is_plain_path;
use crate::reply::Dialect;

/// Fields that are written by themselves.
const OURS: Names =
    Names::new(&["connection", "content-length", "host", "transfer-encoding", "upgrade"]);

/// A head that was found fit to be sent.
#[derive(Debug)]
pub(super) struct Target<'a> {
    head: &'a RequestHead,
    /// If it is not plainly that of the head.
    path: Option<PathAndQuery>,
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
        let path = match is_plain_path(&head.path) {
            true => None,
            false => Some(path(&head.path)?),
        };
        Ok(Target { head, path, upgrade: options.upgrade.as_deref() })
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
        let headers = &self.head.headers;
        out.extend_from_slice(self.head.method.as_str().as_bytes());
        out.push(b' ');
        match &self.path {
            Some(path) => out.extend_from_slice(path.as_str().as_bytes()),
            None => out.extend_from_slice(&self.head.path),
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        self.write_host(out, endpoint)?;
        headers.write_lines(out, &OURS);
        if let Some(protocol) = self.upgrade {
            write_field(out, CONNECTION, "upgrade");
            write_field(out, UPGRADE, protocol);
        }
        let framing = self.framing(out, body)?;
        out.extend_from_slice(b"\r\n");
        Ok(framing)
    }

    fn write_host(&self, out: &mut Vec<u8>, endpoint: SocketAddr) -> Result<(), String> {
        let authority = &self.head.authority;
        if authority.is_empty() {
            write_field(out, HOST, endpoint.to_string());
        } else if authority.iter().any(u8::is_ascii_control) {
            return Err(self.bad_authority("it holds a control character"));
        } else {
            write_field(out, HOST, authority);
        }
        Ok(())
    }

    fn framing(&self, out: &mut Vec<u8>, body: &Body) -> Result<Framing, String> {
        let headers = &self.head.headers;
        let trailers = headers.contains(TRAILER);
        let said = headers.get(CONTENT_LENGTH);
        let (length, said) = match (body, said) {
            (Body::Full(bytes), _) => {
                let length = bytes.len() as u64;
                (length, Some(Cow::from(length.to_string().into_bytes())))
            }
            // Only a chunked body has trailers.
            (Body::Stream(_), _) if trailers => return Ok(self.chunked(out)),
            (Body::Stream(_), None) => return Ok(self.chunked(out)),
            (Body::Stream(_) | Body::Empty, Some(said)) => {
                let no_number = || format!("content-length {:?} is no number", lossy(said));
                (number(said).ok_or_else(no_number)?, Some(Cow::from(said)))
            }
            (Body::Empty, None) => (0, None),
        };
        if let Some(said) = said {
            write_field(out, CONTENT_LENGTH, said);
        }
        Ok(Framing::Length(length))
    }

    fn chunked(&self, out: &mut Vec<u8>) -> Framing {
        write_field(out, TRANSFER_ENCODING, "chunked");
        Framing::Chunked(announced(&self.head.headers))
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
        parts.path_and_query = Some(match &self.path {
            Some(path) => path.clone(),
            None => path(&self.head.path)?,
        });
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = Uri::from_parts(parts).map_err(|problem| problem.to_string())?;
        let headers = request.headers_mut();
        *headers = (&self.head.headers).into();
        if Dialect::of(&self.head.headers) == Dialect::Grpc {
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

fn path(bytes: &Bytes) -> Result<PathAndQuery, String> {
    let path = PathAndQuery::from_maybe_shared(bytes.clone())
        .map_err(|problem| format!("path {:?}: {problem}", lossy(bytes)))?;
    match path.as_str().starts_with(['/', '*']) {
        true => Ok(path),
        false => Err(format!("path {:?} does not start with a slash", path.as_str())),
    }
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
