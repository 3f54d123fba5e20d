//! What a certificate says of its holder.

use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The parts of a leaf certificate that attributes show.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// RFC 2253.
    pub subject: String,
    pub dns_names: Vec<String>,
    pub uris: Vec<String>,
    /// SHA-256 of the DER form, lower-case hex.
    pub digest: String,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
}

impl Leaf {
    pub(super) fn read(der: &[u8]) -> Result<Leaf, X509Error> {
        let (_, certificate) = X509Certificate::from_der(der)?;
        let (mut dns_names, mut uris) = (Vec::new(), Vec::new());
        let names = certificate.subject_alternative_name()?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                _ => {}
            }
        }
        Ok(Leaf {
            subject: distinguished_name(certificate.subject()),
            dns_names,
            uris,
            digest: hex(&Sha256::digest(der)),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// RFC 2253: the last part first, joined by `,`; parts of one set joined by `+`.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut sets: Vec<String> = name
        .iter_rdn()
        .map(|set| set.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    sets.reverse();
    sets.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    let name = match oid2abbrev(oid, oid_registry()) {
        Ok(name) => name.to_owned(),
        Err(_) => oid.to_id_string(),
    };
    match attribute.as_str() {
        Ok(value) => format!("{name}={}", escape(value)),
        Err(_) => format!("{name}=#{}", hex(attribute.as_slice())),
    }
}

/// RFC 2253, section 2.4.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, char) in value.chars().enumerate() {
        let special = match char {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => at == 0,
            ' ' => at == 0 || at == last,
            _ => false,
        };
        if special {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
