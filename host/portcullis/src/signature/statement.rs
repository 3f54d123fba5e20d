//! What is signed: statements about the digests of images, in cosign's own form ("simple signing") and in the one that it
//! writes since version 3 (an in-toto statement in a DSSE envelope, in a Sigstore bundle).
//!
//! What a statement says counts for nothing before a trusted key was found to have made the signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// What a payload of cosign's own form says that it is; others, such as those of GnuPG, have another word.
const SIMPLE: &str = "cosign container image signature";
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The predicate of a signature. Others are attestations: that something is known of an image, not that it is vouched for.
pub const VOUCHES: &str = "https://sigstore.dev/cosign/sign/v1";

#[derive(Deserialize)]
struct Simple {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    r#type: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The digest, `sha256:…`, that a payload in cosign's own form is about.
pub(super) fn simple(payload: &[u8]) -> Result<Vec<String>, String> {
    let statement: Simple =
        serde_json::from_slice(payload).map_err(|problem| problem.to_string())?;
    let Critical { image, r#type } = statement.critical;
    match r#type == SIMPLE {
        true => Ok(vec![image.digest]),
        false => Err(format!("its type is {:?}", r#type)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Written,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    payload: String,
    payload_type: String,
    signatures: Vec<WrittenSignature>,
}

#[derive(Deserialize)]
struct WrittenSignature {
    sig: String,
}

/// A payload with its type and signatures.
pub(super) struct Envelope {
    payload: Vec<u8>,
    payload_type: String,
    /// In Base64.
    pub signatures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InToto {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digests,
}

#[derive(Deserialize)]
struct Digests {
    sha256: Option<String>,
}

impl Envelope {
    /// The envelope in a Sigstore bundle, if it holds one that can be read.
    pub fn of_bundle(json: &[u8]) -> Option<Envelope> {
        let bundle: Bundle = serde_json::from_slice(json).ok()?;
        let Written { payload, payload_type, signatures } = bundle.dsse_envelope;
        let payload = STANDARD.decode(payload).ok()?;
        let signatures = signatures.into_iter().map(|signature| signature.sig).collect();
        Some(Envelope { payload, payload_type, signatures })
    }

    /// What is signed: DSSE's pre-authentication encoding, version 1.
    pub fn message(&self) -> Vec<u8> {
        let (kind, payload) = (&self.payload_type, &self.payload);
        let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
        message.extend_from_slice(payload);
        message
    }

    /// The digests, `sha256:…`, that it is about.
    pub fn subjects(&self) -> Result<Vec<String>, String> {
        if self.payload_type != IN_TOTO {
            return Err(format!("its type is {:?}", self.payload_type));
        }
        let statement: InToto =
            serde_json::from_slice(&self.payload).map_err(|problem| problem.to_string())?;
        if statement.predicate_type != VOUCHES {
            return Err(format!("its predicate is {:?}", statement.predicate_type));
        }
        let digests = statement.subject.into_iter().filter_map(|subject| subject.digest.sha256);
        Ok(digests.map(|digest| format!("sha256:{digest}")).collect())
    }
}
