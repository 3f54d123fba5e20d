//! Signatures of what was fetched, kept beside it: what was vouched for once is, without asking the registry again, as long
//! as the keys are the same.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use portcullis_vm::Digest;
use serde::{Deserialize, Serialize};

use super::Version;
use super::downloads::Downloads;
use super::error::{FetchError, FetchErrorKind};
use super::oci::{Session, sha256};
use crate::signature::{Distrust, Signature, Trust};

/// What is known about who signed an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Of the image's index, if it has one, and of its manifest: a signature of either will do.
    pub digests: Vec<Digest>,
    /// Of any of them, by anybody.
    pub signatures: Vec<Signature>,
}

/// The form in which it is kept; bytes are in Base64.
#[derive(Deserialize, Serialize)]
struct Written {
    digests: Vec<String>,
    signatures: Vec<WrittenSignature>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum WrittenSignature {
    Simple { payload: String, signature: String },
    Bundle(String),
}

impl Evidence {
    /// Whether somebody of each of `trust` has signed.
    ///
    /// # Errors
    /// Why somebody has not.
    pub fn check(&self, trust: &[Trust]) -> Result<(), Distrust> {
        trust.iter().try_for_each(|trust| trust.check(&self.digests, &self.signatures))
    }

    pub(super) fn read(text: &[u8]) -> Option<Evidence> {
        let written: Written = serde_json::from_slice(text).ok()?;
        let bytes = |text: &str| BASE64_STANDARD.decode(text).ok().map(Into::into);
        let signature = |written: WrittenSignature| match written {
            WrittenSignature::Simple { payload, signature } => {
                Some(Signature::Simple { payload: bytes(&payload)?, base64: signature })
            }
            WrittenSignature::Bundle(json) => Some(Signature::Bundle(bytes(&json)?)),
        };
        Some(Evidence {
            digests: written.digests.iter().map(|text| sha256(text)).collect::<Option<_>>()?,
            signatures: written.signatures.into_iter().map(signature).collect::<Option<_>>()?,
        })
    }

    pub(super) fn written(&self) -> impl Serialize + use<> {
        let signature = |signature: &Signature| match signature {
            Signature::Simple { payload, base64 } => WrittenSignature::Simple {
                payload: BASE64_STANDARD.encode(payload),
                signature: base64.clone(),
            },
            Signature::Bundle(json) => WrittenSignature::Bundle(BASE64_STANDARD.encode(json)),
        };
        Written {
            digests: self.digests.iter().map(|digest| format!("sha256:{digest}")).collect(),
            signatures: self.signatures.iter().map(signature).collect(),
        }
    }
}

/// Whether somebody of each of `trust` is known to have vouched for what a name led to.
pub(super) fn is_kept(trust: &[Trust], resolved: Digest, downloads: &Downloads) -> bool {
    let kept = || downloads.evidence(resolved);
    trust.is_empty() || kept().is_some_and(|kept| kept.check(trust).is_ok())
}

/// Finds out whether `[index, manifest]` (the same where there is no index) are signed as they have to be. What is fetched
/// later is fetched by these digests, whatever becomes of tags.
pub(super) async fn vouch(
    trust: &[Trust],
    session: &Session,
    digests: [Digest; 2],
    downloads: &Downloads,
) -> Result<(), FetchError> {
    let [resolved, chosen] = digests;
    if is_kept(trust, resolved, downloads) {
        return Ok(());
    }
    let mut evidence = Evidence { digests: vec![resolved], signatures: Vec::new() };
    if chosen != resolved {
        evidence.digests.push(chosen);
    }
    for digest in &evidence.digests {
        evidence.signatures.extend(session.signatures(*digest).await?);
    }
    let checked = evidence.check(trust);
    checked.map_err(|reason| distrusted(&session.image().to_string(), &reason))?;
    downloads.keep_evidence(resolved, &evidence)
}

/// That somebody does not vouch for what has this name.
pub(super) fn distrusted(name: &str, reason: &Distrust) -> FetchError {
    let title = format!("{name} is not signed as it has to be");
    let kind = match reason {
        Distrust::NoPlace => FetchErrorKind::Unsignable,
        _ => FetchErrorKind::Distrusted,
    };
    FetchError::new(kind, title, reason.to_string())
}

/// What tells these keys from others; `None` where there are none.
pub(super) fn version(trust: &[Trust]) -> Option<Version> {
    let groups = trust.iter().map(|trust| {
        let ids: Vec<u8> = trust.keys.iter().flat_map(|key| key.id().0).collect();
        Some(Version::of(&ids))
    });
    (!trust.is_empty()).then(|| Version::of(b"").with(groups))
}
