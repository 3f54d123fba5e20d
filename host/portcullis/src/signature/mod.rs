//! Who vouches for a module: public keys, and signatures in cosign's forms over the digest of a manifest or over a file.
//!
//! Pure arithmetic on bytes that others bring: it reads no file, asks no registry, and does not decide what follows when
//! nobody vouches. Keyless signatures (certificates, transparency logs) are not understood, and count as those of an
//! unknown key.

mod key;
mod statement;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use portcullis_vm::Digest;

pub use key::{KeyError, PublicKey};
use statement::Envelope;
pub use statement::VOUCHES;

/// More than anybody makes of one thing. Each costs a verification for each key, and whoever keeps signatures may put there
/// as many as they like.
const MOST: usize = 16;

/// One signature as a registry keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// In cosign's own form.
    Simple {
        /// What was signed, byte for byte: a statement about a digest.
        payload: Bytes,
        /// In Base64, as in the annotation `dev.cosignproject.cosign/signature`.
        base64: String,
    },
    /// A Sigstore bundle, in JSON: statement and signature in one.
    Bundle(Bytes),
}

/// Keys of which one has to vouch for a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Any of them will do.
    pub keys: Arc<[PublicKey]>,
    /// The files they are from, for people.
    pub named: String,
}

/// Why nobody vouches for a module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// There is no signature.
    #[error("it is not signed")]
    Unsigned,
    /// Modules from there carry no signatures.
    #[error("modules from there carry no signature")]
    NoPlace,
    /// There are signatures, all of them by others.
    #[error("it is signed, but not with a key of {named}")]
    OtherKey {
        /// The key files.
        named: String,
    },
    /// A trusted key signed something else, and that signature was put here.
    #[error("its signature is right, but it is that of {signed}")]
    OtherDigest {
        /// What was signed.
        signed: String,
    },
    /// A trusted key signed something that is no statement about a module.
    #[error("what the signature signs is not understood: {0}")]
    Statement(String),
}

impl Trust {
    /// Whether one of `signatures` is that of a trusted key over one of `digests`: those of the index and of the manifest
    /// that leads to the module.
    ///
    /// # Errors
    /// Nobody vouches for any of them; of several reasons the one that comes closest.
    pub fn check(&self, digests: &[Digest], signatures: &[Signature]) -> Result<(), Distrust> {
        let mut reason = Distrust::Unsigned;
        for signature in signatures {
            match self.check_one(digests, signature) {
                Ok(()) => return Ok(()),
                Err(closer @ (Distrust::OtherDigest { .. } | Distrust::Statement(_))) => {
                    reason = closer;
                }
                Err(other) if reason == Distrust::Unsigned => reason = other,
                Err(_) => {}
            }
        }
        Err(reason)
    }

    fn check_one(&self, digests: &[Digest], signature: &Signature) -> Result<(), Distrust> {
        let signed = match signature {
            Signature::Simple { payload, base64 } => {
                if !self.made(payload, base64) {
                    return Err(self.other_key());
                }
                statement::simple(payload)
            }
            Signature::Bundle(json) => {
                let envelope = Envelope::of_bundle(json).ok_or_else(|| self.other_key())?;
                let message = envelope.message();
                let mut signatures = envelope.signatures.iter().take(MOST);
                if !signatures.any(|base64| self.made(&message, base64)) {
                    return Err(self.other_key());
                }
                envelope.subjects()
            }
        };
        let signed = signed.map_err(Distrust::Statement)?;
        let meant = |digest: &Digest| signed.contains(&format!("sha256:{digest}"));
        match digests.iter().any(meant) {
            true => Ok(()),
            false => Err(Distrust::OtherDigest { signed: signed.join(", ") }),
        }
    }

    /// Whether a trusted key signed these very bytes, as `cosign sign-blob` does. `base64` may hold several signatures, one
    /// in a line, at most 16.
    ///
    /// # Errors
    /// None did.
    pub fn check_bytes(&self, bytes: &[u8], base64: &str) -> Result<(), Distrust> {
        match base64.lines().take(MOST).any(|line| self.made(bytes, line)) {
            true => Ok(()),
            false => Err(self.other_key()),
        }
    }

    fn made(&self, bytes: &[u8], base64: &str) -> bool {
        let signature = STANDARD.decode(base64.trim());
        signature.is_ok_and(|signature| self.keys.iter().any(|key| key.made(bytes, &signature)))
    }

    fn other_key(&self) -> Distrust {
        Distrust::OtherKey { named: self.named.clone() }
    }
}
