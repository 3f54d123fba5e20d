//! Signatures of an image, where cosign puts them: in an image whose tag is made of the signed digest, one layer for each,
//! or (since its version 3) as bundles in images that refer to the signed one. Whether a signature is right, and whose it
//! is, is for `signature` to say.

use std::collections::BTreeMap;

use portcullis_vm::Digest;
use serde::Deserialize;

use super::{Ask, Content, Descriptor, Session, media, sha256};
use crate::fetch::error::{FetchError, FetchErrorKind};
use crate::signature::Signature;

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Without its version.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// As many are looked at in each place; a registry may hold any number.
const MOST: usize = 32;
const STATEMENT_BYTES: usize = 256 << 10;
const LIST_BYTES: usize = 4 << 20;

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
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Session {
    /// The signatures of what has this digest; none where nobody signed it.
    ///
    /// # Errors
    /// The registry does not say, or what it keeps is damaged.
    pub async fn signatures(&self, signed: Digest) -> Result<Vec<Signature>, FetchError> {
        let mut signatures = self.simple(signed).await?;
        for referrer in self.referrers(signed).await?.into_iter().take(MOST) {
            let found = self.content(&format!("sha256:{}", referrer.digest)).await?;
            let Content::Manifest(manifest) = found.content else { continue };
            let bundle = |layer: &&Descriptor| layer.media_type.starts_with(BUNDLE);
            for layer in manifest.layers.iter().filter(bundle).take(MOST) {
                signatures.push(Signature::Bundle(self.blob(layer, STATEMENT_BYTES).await?));
            }
        }
        Ok(signatures)
    }

    async fn simple(&self, signed: Digest) -> Result<Vec<Signature>, FetchError> {
        let found = match self.content(&format!("sha256-{signed}.sig")).await {
            Err(error) if error.kind() == FetchErrorKind::Missing => return Ok(Vec::new()),
            other => other?,
        };
        let damaged = |cause: String| {
            let title = format!("the signatures of {} cannot be read", self.image());
            FetchError::new(FetchErrorKind::Damaged, title, cause)
        };
        let written: Written =
            serde_json::from_slice(&found.bytes).map_err(|problem| damaged(problem.to_string()))?;
        let mut signatures = Vec::new();
        let payloads = written.layers.into_iter().filter(|layer| layer.media_type == PAYLOAD);
        for layer in payloads.take(MOST) {
            let Some(base64) = layer.annotations.get(SIGNATURE).cloned() else { continue };
            let digest = sha256(&layer.digest).ok_or_else(|| damaged(layer.digest.clone()))?;
            let media_type = layer.media_type;
            let payload = Descriptor { media_type, digest, size: 0, platform: None };
            let payload = self.blob(&payload, STATEMENT_BYTES).await?;
            signatures.push(Signature::Simple { payload, base64 });
        }
        Ok(signatures)
    }

    /// What refers to this digest. Registries from before OCI 1.1 keep the list under a tag.
    async fn referrers(&self, signed: Digest) -> Result<Vec<Descriptor>, FetchError> {
        let listed = async {
            let place = self.url(&format!("referrers/sha256:{signed}"))?;
            let answer = self.get(&Ask::get(place)).await?;
            let bytes = answer.whole(LIST_BYTES).await?;
            Content::read("the list of referrers", media::OCI_INDEX, &bytes)
        };
        let content = match listed.await {
            Ok(content) => content,
            Err(_) => match self.content(&format!("sha256-{signed}")).await {
                Err(error) if error.kind() == FetchErrorKind::Missing => return Ok(Vec::new()),
                other => other?.content,
            },
        };
        match content {
            Content::Index(list) => Ok(list),
            Content::Manifest(_) => Ok(Vec::new()),
        }
    }
}
