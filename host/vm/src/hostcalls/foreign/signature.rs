//! `verify_signature`, `sign`: RSA (PKCS#1 v1.5) and ECDSA on P-256 and P-384, with keys in DER or PEM.
//!
//! Messages and error texts are Envoy's (`verify_signature.proto`, `sign.proto`, `common/crypto`). What ring cannot do is
//! answered as an unsupported hash: SHA-224, SHA-1 for signing, and the hash that a curve is not used with.

use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, RsaEncoding, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use super::super::{Call, Stop};
use super::message::{self, Malformed};
use crate::abi::numbers::Status;

/// Longest arguments, in bytes: hashing cannot be interrupted.
const MAX_ARGUMENTS: usize = 1 << 20;

const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const RSA: &str = "1.2.840.113549.1.1.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";

impl From<Malformed> for Stop {
    fn from(_: Malformed) -> Stop {
        Status::BadArgument.into()
    }
}

/// What both functions are given.
#[derive(Default)]
struct Arguments<'a> {
    hash: &'a str,
    der: &'a [u8],
    pem: &'a str,
    text: &'a [u8],
    signature: &'a [u8],
}

pub(super) fn verify(_: &mut Call<'_>, bytes: &[u8]) -> Result<Vec<u8>, Stop> {
    check_size(bytes)?;
    let mut arguments = Arguments::default();
    message::read(bytes, |number, value| {
        match number {
            1 => arguments.hash = value.text()?,
            2 => arguments.der = value.bytes(),
            3 => arguments.signature = value.bytes(),
            4 => arguments.text = value.bytes(),
            5 => arguments.pem = value.text()?,
            _ => {}
        }
        Ok(())
    })?;
    let key = key(&arguments, &["PUBLIC KEY"])?;
    let mut answer = Vec::new();
    match check(&key, &arguments) {
        Ok(()) => message::write_true(&mut answer, 1),
        Err(why) => message::write_bytes(&mut answer, 2, why.as_bytes()),
    }
    Ok(answer)
}

pub(super) fn sign(_: &mut Call<'_>, bytes: &[u8]) -> Result<Vec<u8>, Stop> {
    check_size(bytes)?;
    let mut arguments = Arguments::default();
    message::read(bytes, |number, value| {
        match number {
            1 => arguments.hash = value.text()?,
            2 => arguments.der = value.bytes(),
            3 => arguments.text = value.bytes(),
            4 => arguments.pem = value.text()?,
            _ => {}
        }
        Ok(())
    })?;
    let key = key(&arguments, &["PRIVATE KEY", "RSA PRIVATE KEY"])?;
    let mut answer = Vec::new();
    match make(&key, &arguments) {
        Ok(signature) => {
            message::write_true(&mut answer, 1);
            message::write_bytes(&mut answer, 2, &signature);
        }
        Err(why) => message::write_bytes(&mut answer, 3, why.as_bytes()),
    }
    Ok(answer)
}

fn check_size(bytes: &[u8]) -> Result<(), Status> {
    if bytes.len() > MAX_ARGUMENTS { Err(Status::BadArgument) } else { Ok(()) }
}

/// The key in DER; no bytes if it cannot be read. Envoy wants exactly one of both forms.
fn key(arguments: &Arguments<'_>, labels: &[&str]) -> Result<Vec<u8>, Status> {
    match (arguments.der, arguments.pem) {
        ([], "") => Err(Status::BadArgument),
        (der, "") => Ok(der.to_vec()),
        ([], pem) => {
            let read = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok();
            let fitting = read.filter(|(_, pem)| labels.contains(&pem.label.as_str()));
            Ok(fitting.map(|(_, pem)| pem.contents).unwrap_or_default())
        }
        _ => Err(Status::BadArgument),
    }
}

/// Why the signature is not right.
fn check(key: &[u8], arguments: &Arguments<'_>) -> Result<(), String> {
    check_hash(arguments.hash)?;
    let key = SubjectPublicKeyInfo::from_der(key);
    let (_, key) = key.map_err(|_| "Failed to initialize digest verify.")?;
    let algorithm = verifier(&key, arguments.hash)?;
    UnparsedPublicKey::new(algorithm, &key.subject_public_key.data)
        .verify(arguments.text, arguments.signature)
        .map_err(|_| "Failed to verify digest. Error code: 0".to_owned())
}

/// Hashes that Envoy knows.
fn check_hash(hash: &str) -> Result<(), String> {
    let known = ["sha1", "sha224", "sha256", "sha384", "sha512"];
    if known.contains(&hash.to_ascii_lowercase().as_str()) { Ok(()) } else { unsupported(hash) }
}

fn unsupported<T>(hash: &str) -> Result<T, String> {
    Err(format!("{hash} is not supported."))
}

fn verifier(
    key: &SubjectPublicKeyInfo<'_>,
    hash: &str,
) -> Result<&'static dyn VerificationAlgorithm, String> {
    let lower = hash.to_ascii_lowercase();
    let algorithm = key.algorithm.algorithm.to_id_string();
    let curve = || key.algorithm.parameters.as_ref()?.as_oid().ok().map(|oid| oid.to_id_string());
    Ok(match (algorithm.as_str(), curve().as_deref().unwrap_or_default(), lower.as_str()) {
        (RSA, _, "sha1") => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (RSA, _, "sha256") => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        (RSA, _, "sha384") => &signature::RSA_PKCS1_2048_8192_SHA384,
        (RSA, _, "sha512") => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        (EC_PUBLIC_KEY, P256, "sha256") => &signature::ECDSA_P256_SHA256_ASN1,
        (EC_PUBLIC_KEY, P256, "sha384") => &signature::ECDSA_P256_SHA384_ASN1,
        (EC_PUBLIC_KEY, P384, "sha256") => &signature::ECDSA_P384_SHA256_ASN1,
        (EC_PUBLIC_KEY, P384, "sha384") => &signature::ECDSA_P384_SHA384_ASN1,
        (RSA, ..) | (EC_PUBLIC_KEY, P256 | P384, _) => return unsupported(hash),
        _ => return Err("Failed to initialize digest verify.".to_owned()),
    })
}

/// The signature, or why there is none.
fn make(key: &[u8], arguments: &Arguments<'_>) -> Result<Vec<u8>, String> {
    const FAILED: &str = "Failed to create signature.";
    check_hash(arguments.hash)?;
    let hash = arguments.hash.to_ascii_lowercase();
    let random = SystemRandom::new();
    if let Ok(pair) = RsaKeyPair::from_pkcs8(key).or_else(|_| RsaKeyPair::from_der(key)) {
        let padding: &dyn RsaEncoding = match hash.as_str() {
            "sha256" => &signature::RSA_PKCS1_SHA256,
            "sha384" => &signature::RSA_PKCS1_SHA384,
            "sha512" => &signature::RSA_PKCS1_SHA512,
            _ => return unsupported(arguments.hash),
        };
        let mut made = vec![0; pair.public().modulus_len()];
        let signed = pair.sign(padding, &random, arguments.text, &mut made);
        return signed.map(|()| made).map_err(|_| FAILED.to_owned());
    }
    for (algorithm, usual) in [
        (&signature::ECDSA_P256_SHA256_ASN1_SIGNING, "sha256"),
        (&signature::ECDSA_P384_SHA384_ASN1_SIGNING, "sha384"),
    ] {
        let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, key, &random) else { continue };
        if hash != usual {
            return unsupported(arguments.hash);
        }
        let signed = pair.sign(&random, arguments.text);
        return signed.map(|made| made.as_ref().to_vec()).map_err(|_| FAILED.to_owned());
    }
    Err("Invalid key type: private key required for signing operation.".to_owned())
}
