//! Certificates for one run: an authority, a server, a client, in PEM. `NAME.pem.key` is the key of `NAME.pem`, where HAProxy looks for it.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

/// Writes `ca.pem`, `server.pem` (for `localhost` and 127.0.0.1), `client.pem` and their keys (ECDSA, P-256).
///
/// # Errors
/// The folder cannot be written.
pub fn write(folder: &Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "bench authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;
    for name in ["server", "client"] {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(2090, 12, 31);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
        fs::write(folder.join(format!("{name}.pem.key")), key.serialize_pem())?;
    }
    Ok(())
}
