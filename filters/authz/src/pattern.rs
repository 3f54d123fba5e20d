//! How a rule's words match a request's. Everything is parsed when the filter is configured; a
//! pattern that does not parse is refused, never taken literally.

use std::net::IpAddr;

use serde::de::{Deserialize, Deserializer, Error};

/// A pattern for one kind of value.
pub trait Pattern {
    fn matches(&self, value: &str) -> bool;
}

/// Alternatives. Left out it says nothing; written down it must not be empty.
pub struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Vec::deserialize(deserializer)? {
            items if items.is_empty() => Err(D::Error::custom("is empty: leave it out instead")),
            items => Ok(List(items)),
        }
    }
}

impl<T> List<T> {
    pub fn is_unset(&self) -> bool {
        self.0.is_empty()
    }

    pub fn unset_or_any(&self, holds: impl Fn(&T) -> bool) -> bool {
        self.is_unset() || self.0.iter().any(holds)
    }
}

impl<T: Pattern> List<T> {
    pub fn matches(&self, value: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(value))
    }
}

/// `exact`, `prefix*`, `*suffix`, or `*` for any value that is there.
#[derive(serde::Deserialize)]
#[serde(try_from = "String")]
pub enum Text {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Present,
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Text, String> {
        let part = |part: &str| match part {
            "" => Err("an empty pattern matches nothing".to_owned()),
            part if part.contains('*') => {
                Err(format!("`{text}`: `*` stands at the start or at the end, or alone"))
            }
            part => Ok(part.to_owned()),
        };
        match (text.strip_suffix('*'), text.strip_prefix('*')) {
            (Some(""), _) => Ok(Text::Present),
            (Some(prefix), _) => part(prefix).map(Text::Prefix),
            (None, Some(suffix)) => part(suffix).map(Text::Suffix),
            (None, None) => part(&text).map(Text::Exact),
        }
    }
}

impl Pattern for Text {
    fn matches(&self, value: &str) -> bool {
        match self {
            Text::Exact(text) => value == text,
            Text::Prefix(prefix) => value.starts_with(prefix),
            Text::Suffix(suffix) => value.ends_with(suffix),
            Text::Present => true,
        }
    }
}

/// A host in any case; without a port it means every port.
#[derive(serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Host(Text);

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(host: String) -> Result<Host, String> {
        Text::try_from(host.to_lowercase()).map(Host)
    }
}

impl Pattern for Host {
    fn matches(&self, value: &str) -> bool {
        let value = value.to_lowercase();
        let name = match value.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &value,
        };
        // `example.com.` is the same host.
        self.0.matches(&value) || self.0.matches(name) || self.0.matches(name.trim_end_matches('.'))
    }
}

/// A path: text, or a template with `{*}` for one segment and, last, `{**}` for the rest.
#[derive(serde::Deserialize)]
#[serde(try_from = "String")]
pub enum Path {
    Text(Text),
    Template(Vec<String>),
}

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(path: String) -> Result<Path, String> {
        if !path.contains(['{', '}']) {
            return Text::try_from(path).map(Path::Text);
        }
        let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        let rest = segments.iter().position(|segment| segment == "{**}");
        let literal = |segment: &String| !segment.contains(['{', '}', '*']);
        let known = |segment: &String| literal(segment) || segment == "{*}" || segment == "{**}";
        if !path.starts_with('/') || !segments.iter().all(known) {
            return Err(format!("`{path}`: a template is made of /name, /{{*}} and /{{**}}"));
        }
        match rest {
            Some(rest) if rest + 1 < segments.len() => Err(format!("`{path}`: {{**}} comes last")),
            _ => Ok(Path::Template(segments)),
        }
    }
}

impl Pattern for Path {
    fn matches(&self, value: &str) -> bool {
        let segments = match self {
            Path::Text(text) => return text.matches(value),
            Path::Template(segments) => segments,
        };
        let mut names = value.split('/');
        for segment in segments {
            let Some(name) = names.next() else { return false };
            match segment.as_str() {
                "{**}" => return true,
                "{*}" if !name.is_empty() => {}
                literal if literal == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }
}

/// A port, written as text.
#[derive(serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Port(u16);

impl TryFrom<String> for Port {
    type Error = String;

    fn try_from(port: String) -> Result<Port, String> {
        match port.parse() {
            Ok(number) if number > 0 => Ok(Port(number)),
            _ => Err(format!("`{port}` is not a port (1 to 65535)")),
        }
    }
}

impl Pattern for Port {
    fn matches(&self, value: &str) -> bool {
        value.parse() == Ok(self.0)
    }
}

/// Addresses: `192.0.2.0/24`, or one alone.
#[derive(serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Cidr {
    network: IpAddr,
    bits: u32,
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Cidr, String> {
        let parse = || {
            let (address, bits) = match text.split_once('/') {
                Some((address, bits)) => (address, Some(bits.parse().ok()?)),
                None => (text.as_str(), None),
            };
            let network: IpAddr = address.parse().ok()?;
            let most = if network.is_ipv4() { 32 } else { 128 };
            let bits = bits.unwrap_or(most);
            (bits <= most).then_some(Cidr { network, bits })
        };
        parse().ok_or_else(|| format!("`{text}` is not an address or a CIDR such as 10.0.0.0/8"))
    }
}

impl Pattern for Cidr {
    fn matches(&self, value: &str) -> bool {
        let differing = match (self.network, value.parse()) {
            (IpAddr::V4(network), Ok(IpAddr::V4(address))) => (network.to_bits()
                ^ address.to_bits())
            .checked_shr(32 - self.bits)
            .unwrap_or(0)
            .into(),
            (IpAddr::V6(network), Ok(IpAddr::V6(address))) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(128 - self.bits).unwrap_or(0)
            }
            _ => return false,
        };
        differing == 0_u128
    }
}
