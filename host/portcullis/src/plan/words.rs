//! Single values of documents: addresses, host names, headers, regular expressions. Each answers in words what is wrong.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{HeaderName, HeaderValue};
use portcullis_proxy::snapshot::EndpointAddress;
use portcullis_vm::{Digest, PROPERTY_PREFIX};
use regex::{Regex, RegexBuilder};

/// Bytes that a compiled regular expression may take.
const REGEX_BYTES: usize = 1 << 20;

/// `IP:PORT`
pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if port {
            "an IP address and a port, such as 127.0.0.1:8080 or [::]:8080".to_owned()
        } else {
            format!("add a port, such as {text}:8080")
        }
    })
}

/// `IP:PORT` or `NAME:PORT`
pub(super) fn endpoint(text: &str) -> Result<EndpointAddress, String> {
    if let Ok(address) = text.parse() {
        return Ok(EndpointAddress::Ip(address));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("add a port, such as {text}:8080"));
    };
    match port.parse() {
        Ok(port) if port > 0 && is_host(host) => {
            Ok(EndpointAddress::Dns(host.to_ascii_lowercase(), port))
        }
        _ => Err("a name or an IP address and a port, such as reviews.internal:9001".to_owned()),
    }
}

/// A DNS name, no address.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label) && text.parse::<Ipv4Addr>().is_err()
}

/// `HOST` or `HOST:PORT`, the host a name or an address; IPv6 in brackets.
pub(super) fn is_authority(text: &str) -> bool {
    let is_address = |host: &str| match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|v6| v6.parse::<Ipv6Addr>().is_ok()),
        None => host.parse::<Ipv4Addr>().is_ok() || is_host(host),
    };
    let with_port = text.rsplit_once(':').is_some_and(|(host, port)| {
        is_address(host) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    with_port || is_address(text)
}

/// A host name of a route, possibly with a leading `*.`; in lower case.
pub(super) fn hostname(text: &str) -> Result<String, String> {
    if is_host(text.strip_prefix("*.").unwrap_or(text)) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("a DNS name without port, optionally with `*.` in front".to_owned())
}

/// A path that begins with `/` and has no empty segment inside.
pub(super) fn path(text: &str) -> Result<String, String> {
    match text {
        _ if !text.starts_with('/') => Err(format!("a path begins with `/`, such as /{text}")),
        _ if text.contains("//") => Err("a path has no `//`".to_owned()),
        _ if text.contains(['?', '#']) => Err("a path ends before `?` and `#`".to_owned()),
        _ if text.len() > 1024 => Err("at most 1024 bytes".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// What is put in place of a path, or of its matched prefix; goes into request lines and `location` as it is.
pub(super) fn new_path(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    match text {
        _ if !text.starts_with('/') => {
            Err(format!("a path begins with `/`, such as /{}", text.trim()))
        }
        _ if !text.bytes().all(fits) => {
            Err("visible ASCII characters without `?` and `#`; write others as %XX".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| "letters, digits and `-`, without blanks and colons".to_owned())
}

/// What a header match is about: a header, or behind a prefix the property that a filter stores.
pub(super) fn matched_name(text: &str) -> Result<HeaderName, String> {
    if text.eq_ignore_ascii_case(PROPERTY_PREFIX) {
        let prefix = PROPERTY_PREFIX;
        return Err(format!("add the name of the property that is meant, such as {prefix}tier"));
    }
    header_name(text)
}

pub(super) fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "visible ASCII characters and blanks".to_owned())
}

/// Of the `regex` crate's dialect; the whole value has to match.
pub(super) fn regex(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(REGEX_BYTES).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim();
            reason.trim_start_matches("error: ").to_owned()
        }
    })
}

/// 64 hexadecimal digits.
pub(super) fn digest(text: &str) -> Result<Digest, String> {
    Digest::from_hex(text).ok_or("64 hexadecimal digits, as sha256sum prints".to_owned())
}
