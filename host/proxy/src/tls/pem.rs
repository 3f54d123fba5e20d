//! Reading PEM texts, with errors that say which text is at fault.

use std::fmt::Display;

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::TlsError;

pub(super) const CERTIFICATE: &str = "certificate";
pub(super) const CA: &str = "CA certificate";

/// At least one certificate.
pub(super) fn certificates(
    what: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::NoCertificate { what }),
        Ok(found) => Ok(found),
        Err(problem) => Err(TlsError::Pem { what, problem: problem.to_string() }),
    }
}

/// The first private key; PKCS#8, PKCS#1 or SEC1.
pub(super) fn key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|problem| match problem {
        Error::NoItemsFound => TlsError::NoKey,
        problem => TlsError::Pem { what: "key", problem: problem.to_string() },
    })
}

/// Trust anchors.
pub(super) fn roots(text: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CA, text)? {
        roots.add(certificate).map_err(|problem| unusable(CA, problem))?;
    }
    Ok(roots)
}

pub(super) fn unusable(what: &'static str, problem: impl Display) -> TlsError {
    TlsError::Certificate { what, problem: problem.to_string() }
}
