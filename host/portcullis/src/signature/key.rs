//! Public keys in PEM, and whether one of them made a signature.

use std::fmt;

use portcullis_vm::Digest;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};

const RSA: &str = "1.2.840.113549.1.1.1";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
/// At least.
const RSA_BITS: usize = 2048;
const ED25519: &str = "1.3.101.112";

/// A public key that signatures are verified with: ECDSA on P-256 or P-384, RSA (PKCS#1 v1.5) from 2048 bits, all with
/// SHA-256, P-384 with SHA-384 too; or Ed25519.
#[derive(Clone)]
pub struct PublicKey {
    algorithms: Algorithms,
    bytes: Vec<u8>,
    id: Digest,
}

/// Each is tried.
type Algorithms = &'static [&'static dyn VerificationAlgorithm];

const WITH_P256: Algorithms = &[&signature::ECDSA_P256_SHA256_ASN1];
/// As tools do by themselves, those of Sigstore first the one and later the other.
const WITH_P384: Algorithms =
    &[&signature::ECDSA_P384_SHA256_ASN1, &signature::ECDSA_P384_SHA384_ASN1];
const WITH_RSA: Algorithms = &[&signature::RSA_PKCS1_2048_8192_SHA256];
const WITH_ED25519: Algorithms = &[&signature::ED25519];

/// Why a file gives no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is none, or what is there is not PEM.
    #[error("there is no `-----BEGIN PUBLIC KEY-----` in it, or not all of it")]
    None,
    /// The PEM is there; what it holds is not a public key.
    #[error("it holds a public key that cannot be read")]
    Malformed,
    /// Nobody here verifies with such a key.
    #[error("it holds a key of an algorithm that is not supported ({0})")]
    Algorithm(String),
}

impl PublicKey {
    /// Every public key in `pem`; at least one.
    ///
    /// # Errors
    /// There is none, or one of them cannot be used.
    pub fn read(pem: &[u8]) -> Result<Vec<PublicKey>, KeyError> {
        let sections = SubjectPublicKeyInfoDer::pem_slice_iter(pem);
        let key = |section: Result<SubjectPublicKeyInfoDer<'_>, _>| {
            PublicKey::of(&section.map_err(|_| KeyError::None)?)
        };
        let keys = sections.map(key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(KeyError::None) } else { Ok(keys) }
    }

    fn of(der: &[u8]) -> Result<PublicKey, KeyError> {
        let (rest, key) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::Malformed)?;
        if !rest.is_empty() {
            return Err(KeyError::Malformed);
        }
        let name = key.algorithm.algorithm.to_id_string();
        let parameters = key.algorithm.parameters.as_ref();
        let curve = parameters.and_then(|parameters| parameters.as_oid().ok());
        let curve = curve.map(|oid| oid.to_id_string()).unwrap_or_default();
        let algorithms = match (name.as_str(), curve.as_str()) {
            (EC_PUBLIC_KEY, P256) => WITH_P256,
            (EC_PUBLIC_KEY, P384) => WITH_P384,
            (RSA, _) => match key.parsed().map_err(|_| KeyError::Malformed)?.key_size() {
                short @ ..RSA_BITS => {
                    return Err(KeyError::Algorithm(format!("RSA with {short} bits")));
                }
                _ => WITH_RSA,
            },
            (ED25519, _) => WITH_ED25519,
            (EC_PUBLIC_KEY, curve) => return Err(KeyError::Algorithm(format!("curve {curve}"))),
            (other, _) => return Err(KeyError::Algorithm(other.to_owned())),
        };
        let bytes = key.subject_public_key.data.to_vec();
        Ok(PublicKey { algorithms, bytes, id: Digest::of(der) })
    }

    /// Of the key itself.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// Whether it made `signature` over `message`.
    pub(super) fn made(&self, message: &[u8], signature: &[u8]) -> bool {
        let by = |algorithm: &&'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(*algorithm, &self.bytes).verify(message, signature).is_ok()
        };
        self.algorithms.iter().any(by)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &PublicKey) -> bool {
        self.id == other.id
    }
}

impl Eq for PublicKey {}

/// The beginning of the key's digest; the key itself would say nothing to anybody.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:.12})", self.id.to_string())
    }
}
