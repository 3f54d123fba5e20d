//! Signatures of an image, where cosign puts them: in an image whose tag is made of the signed digest, one layer for each,
//! or (since its version 3) as bundles in images that refer to the signed one. Whether a signature is right, and whose it
//! is, is for `signature` to say.

use bytes::Bytes;
use http::Uri;
use http::header::LINK;
use portcullis_vm::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::pull::MANIFEST_BYTES;
use super::{Answer, Ask, Content, Descriptor, Session, sha256};
use crate::fetch::error::{FetchError, FetchErrorKind};
use crate::fetch::http::join;
use crate::signature::{Signature, VOUCHES};

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Without its version.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// As many are looked at in each place; a registry may hold any number.
const MOST: usize = 32;
/// Of the list of what refers to an image.
const PAGES: usize = 8;
const STATEMENT_BYTES: usize = 256 << 10;

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    digest: String,
    annotations: Option<Annotations>,
}

/// Those that count; a registry may send any number.
#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "dev.cosignproject.cosign/signature")]
    signature: Option<String>,
    /// What a bundle holds, where whoever pushed it says so.
    #[serde(rename = "dev.sigstore.bundle.predicateType")]
    predicate: Option<String>,
}

#[derive(Deserialize)]
struct Referrers {
    manifests: Option<Vec<Referrer>>,
}

/// Something that refers to an image: a signature, an inventory of what is in it, how it was built.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    digest: String,
    artifact_type: Option<String>,
    annotations: Option<Annotations>,
}

impl Referrer {
    /// What says that it is something else is not fetched; there may be any number of those, of any size.
    fn may_vouch(&self) -> bool {
        let kind = self.artifact_type.as_deref().unwrap_or_default();
        let predicate = self.annotations.as_ref().and_then(|all| all.predicate.as_ref());
        (kind.is_empty() || kind.starts_with(BUNDLE))
            && predicate.is_none_or(|predicate| predicate == VOUCHES)
    }
}

impl Session {
    /// The signatures of what has this digest; none where nobody signed it. One that is damaged or gone is passed over,
    /// since another may be right.
    ///
    /// # Errors
    /// The registry does not say.
    pub async fn signatures(&self, signed: Digest) -> Result<Vec<Signature>, FetchError> {
        let mut signatures = self.simple(signed).await?;
        let referrers = self.referrers(signed).await?;
        for referrer in referrers.iter().filter(|one| one.may_vouch()).take(MOST) {
            let Some(digest) = sha256(&referrer.digest) else { continue };
            let found = legible(self.content(&format!("sha256:{digest}")).await)?;
            let Some(Content::Manifest(manifest)) = found.map(|found| found.content) else {
                continue;
            };
            let bundle = |layer: &&Descriptor| layer.media_type.starts_with(BUNDLE);
            let Some(layer) = manifest.layers.iter().find(bundle) else { continue };
            let bundle = legible(self.blob(layer, STATEMENT_BYTES).await)?;
            signatures.extend(bundle.map(Signature::Bundle));
        }
        Ok(signatures)
    }

    async fn simple(&self, signed: Digest) -> Result<Vec<Signature>, FetchError> {
        let mut signatures = Vec::new();
        let layers = self.beside(&format!("sha256-{signed}.sig")).await?;
        let layers = layers.and_then(|found| read(&found)).map(|written: Written| written.layers);
        let payloads = layers.into_iter().flatten().filter(|layer| layer.media_type == PAYLOAD);
        // The newest come last, and after a change of keys only they are right.
        for layer in payloads.rev().take(MOST) {
            let base64 = layer.annotations.and_then(|all| all.signature);
            let (Some(base64), Some(digest)) = (base64, sha256(&layer.digest)) else { continue };
            let media_type = layer.media_type;
            let payload = Descriptor { media_type, digest, size: 0, platform: None };
            let payload = legible(self.blob(&payload, STATEMENT_BYTES).await)?;
            signatures.extend(payload.map(|payload| Signature::Simple { payload, base64 }));
        }
        Ok(signatures)
    }

    /// What stands under a tag that is made of the digest of something else, if anything does.
    async fn beside(&self, tag: &str) -> Result<Option<Bytes>, FetchError> {
        match self.content(tag).await {
            Err(error) if error.kind() == FetchErrorKind::Missing => Ok(None),
            other => Ok(legible(other)?.map(|found| found.bytes)),
        }
    }

    /// What refers to this digest. Registries from before OCI 1.1 keep the list under a tag; one that is in trouble may
    /// know of signatures, and has said nothing.
    async fn referrers(&self, signed: Digest) -> Result<Vec<Referrer>, FetchError> {
        match self.listed(signed).await {
            Ok(Some(referrers)) => return Ok(referrers),
            Err(error) if error.is_passing() => return Err(error),
            Ok(None) | Err(_) => {}
        }
        let list = self.beside(&format!("sha256-{signed}")).await?;
        Ok(list.and_then(|list| read::<Referrers>(&list)?.manifests).unwrap_or_default())
    }

    /// What may vouch, of all pages; `None`: whoever answers has no such list.
    async fn listed(&self, signed: Digest) -> Result<Option<Vec<Referrer>>, FetchError> {
        let mut next = Some(self.url(&format!("referrers/sha256:{signed}"))?);
        let mut found = Vec::new();
        for _ in 0..PAGES {
            let Some(place) = next.take() else { break };
            let answer = self.get(&Ask::get(place)).await?;
            next = next_page(&answer);
            let text = answer.whole(MANIFEST_BYTES).await?;
            let Some(Referrers { manifests: Some(page) }) = read(&text) else { return Ok(None) };
            found.extend(page.into_iter().filter(Referrer::may_vouch).take(MOST));
        }
        Ok(Some(found))
    }
}

/// Where the list goes on: `link: <URL>; rel="next"`, RFC 8288.
fn next_page(answer: &Answer) -> Option<Uri> {
    let link = answer.headers.get(LINK)?.to_str().ok()?;
    let (url, more) = link.strip_prefix('<')?.split_once('>')?;
    let next = more.contains("rel=\"next\"") || more.contains("rel=next");
    next.then(|| join(&answer.uri, url).ok())?
}

/// `None`: it is not written so.
fn read<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::from_slice(text).ok()
}

/// `None`: what should be there is not, or not that.
fn legible<T>(found: Result<T, FetchError>) -> Result<Option<T>, FetchError> {
    match found {
        Err(error) if matches!(error.kind(), FetchErrorKind::Missing | FetchErrorKind::Damaged) => {
            tracing::warn!(%error, "a signature cannot be read");
            Ok(None)
        }
        other => other.map(Some),
    }
}
