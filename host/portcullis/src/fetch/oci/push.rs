//! Writing to a repository: blobs that are not there yet, then manifests that name them.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, StatusCode, Uri};
use portcullis_vm::Digest;

use super::{Session, request, unexpected};
use crate::fetch::error::FetchError;
use crate::fetch::http::{Answer, join};

impl Session {
    /// Uploads `bytes`, unless the repository has them.
    ///
    /// # Errors
    /// The registry does not take them.
    pub async fn push_blob(&self, bytes: &Bytes) -> Result<Digest, FetchError> {
        let digest = Digest::of(bytes);
        let place = self.url(&format!("blobs/sha256:{digest}"))?;
        let known = self.ask(&request(Method::HEAD, place)).await?;
        if known.status == StatusCode::OK {
            return Ok(digest);
        }
        let start = self.url("blobs/uploads/")?;
        let mut ask = request(Method::POST, start);
        ask.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let opened = self.ask(&ask).await?;
        let place = upload(&opened, digest)?;
        let mut ask = request(Method::PUT, place);
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        ask.body = bytes.clone();
        let stored = self.ask(&ask).await?;
        if stored.status.is_success() { Ok(digest) } else { Err(unexpected(&stored)) }
    }

    /// Stores a manifest or index under `version`, a tag or its own `sha256:…`.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn push_manifest(
        &self,
        version: &str,
        media_type: &'static str,
        bytes: &Bytes,
    ) -> Result<Digest, FetchError> {
        let mut ask = request(Method::PUT, self.url(&format!("manifests/{version}"))?);
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        ask.body = bytes.clone();
        let stored = self.ask(&ask).await?;
        if stored.status.is_success() { Ok(Digest::of(bytes)) } else { Err(unexpected(&stored)) }
    }
}

/// Where an upload that was opened takes its bytes.
fn upload(opened: &Answer, digest: Digest) -> Result<Uri, FetchError> {
    let location = opened.headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let Some(location) = location.filter(|_| opened.status.is_success()) else {
        return Err(unexpected(opened));
    };
    let joint = if location.contains('?') { '&' } else { '?' };
    join(&opened.uri, &format!("{location}{joint}digest=sha256:{digest}"))
}
