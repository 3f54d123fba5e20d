//! Writing to a repository: blobs that are not there yet, then manifests that name them.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, StatusCode, Uri};
use portcullis_vm::Digest;
use serde::Deserialize;

use super::{Session, request};
use crate::fetch::error::{FetchError, FetchErrorKind};
use crate::fetch::http::{Answer, join};

/// How much is read of why a registry refuses something.
const WORDS: usize = 16 << 10;

/// How something came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It was there.
    Present,
    /// We put it there.
    Uploaded,
}

/// What registries say when they refuse something.
#[derive(Deserialize)]
struct Refusal {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Session {
    /// Uploads `bytes`, unless the repository has them.
    ///
    /// # Errors
    /// The registry does not take them.
    pub async fn push_blob(&self, bytes: &Bytes) -> Result<Stored, FetchError> {
        let digest = Digest::of(bytes);
        let place = self.url(&format!("blobs/sha256:{digest}"))?;
        let known = self.ask(&request(Method::HEAD, place)).await?;
        if known.status == StatusCode::OK {
            return Ok(Stored::Present);
        }
        let mut ask = request(Method::POST, self.url("blobs/uploads/")?);
        ask.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let opened = self.ask(&ask).await?;
        let Some(place) = upload(&opened, digest) else { return Err(self.refused(opened).await) };
        let mut ask = request(Method::PUT, place);
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        ask.body = bytes.clone();
        let stored = self.ask(&ask).await?;
        match stored.status.is_success() {
            true => Ok(Stored::Uploaded),
            false => Err(self.refused(stored).await),
        }
    }

    /// Stores a manifest or index under `version`, a tag or its own `sha256:…`, unless it is there.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn push_manifest(
        &self,
        version: &str,
        media_type: &'static str,
        bytes: &Bytes,
    ) -> Result<Stored, FetchError> {
        let place = self.url(&format!("manifests/{version}"))?;
        let mut ask = request(Method::HEAD, place.clone());
        ask.headers.insert(ACCEPT, HeaderValue::from_static(media_type));
        let known = self.ask(&ask).await?;
        let digest = known.headers.get("docker-content-digest");
        let same = digest.is_some_and(|digest| *digest == format!("sha256:{}", Digest::of(bytes)));
        if known.status == StatusCode::OK && same {
            return Ok(Stored::Present);
        }
        let mut ask = request(Method::PUT, place);
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        ask.body = bytes.clone();
        let stored = self.ask(&ask).await?;
        match stored.status.is_success() {
            true => Ok(Stored::Uploaded),
            false => Err(self.refused(stored).await),
        }
    }

    async fn refused(&self, answer: Answer) -> FetchError {
        let (status, title) = (answer.status, format!("{} is not taken", self.image()));
        let said = answer.whole(WORDS).await.unwrap_or_default();
        let reasons =
            serde_json::from_slice(&said).map_or_else(|_| Vec::new(), |said: Refusal| said.errors);
        let reasons = reasons.iter().map(|reason| format!("{} {}", reason.code, reason.message));
        let reasons = reasons.collect::<Vec<_>>().join("; ");
        let cause = match reasons.is_empty() {
            true => format!("the registry answered {status}"),
            false => format!("the registry answered {status}: {reasons}"),
        };
        FetchError::new(FetchErrorKind::Refused, title, cause)
    }
}

/// Where an upload takes its bytes, if it was opened.
fn upload(opened: &Answer, digest: Digest) -> Option<Uri> {
    let location = opened.headers.get(LOCATION).filter(|_| opened.status.is_success());
    let location = location?.to_str().ok()?;
    let joint = if location.contains('?') { '&' } else { '?' };
    join(&opened.uri, &format!("{location}{joint}digest=sha256:{digest}")).ok()
}
