//! What a request says about itself, read from the host once and only when a rule asks.

use std::cell::RefCell;
use std::rc::Rc;

use portcullis_sdk::Request;
use serde::Deserialize;

use crate::pattern::{List, Pattern};

/// Something that rules judge. In configurations only the keys of `when` are written so.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub enum Attribute {
    Method,
    Path,
    Host,
    Port,
    Address,
    Principal,
    Namespace,
    ServerName,
    Header(String),
}

impl TryFrom<String> for Attribute {
    type Error = String;

    fn try_from(key: String) -> Result<Attribute, String> {
        let header = key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
        match (header, key.as_str()) {
            (Some(name), _) if !name.is_empty() => Ok(Attribute::Header(name.to_lowercase())),
            (_, "source.principal") => Ok(Attribute::Principal),
            (_, "source.namespace") => Ok(Attribute::Namespace),
            (_, "destination.port") => Ok(Attribute::Port),
            (_, "connection.sni") => Ok(Attribute::ServerName),
            _ => Err(format!(
                "`{key}` is not supported: request.headers[name], source.principal, \
                 source.namespace, destination.port or connection.sni"
            )),
        }
    }
}

/// How several values of one attribute are judged together.
#[derive(Clone, Copy)]
pub enum Judge {
    /// There are some, and all match: for what lets a request in.
    All,
    /// One matches: for what keeps a request out.
    Any,
}

/// The attributes of one request.
pub struct Facts<'r> {
    req: &'r Request,
    known: RefCell<Vec<(Attribute, Rc<[String]>)>>,
}

impl<'r> Facts<'r> {
    pub fn of(req: &'r Request) -> Facts<'r> {
        Facts { req, known: RefCell::default() }
    }

    /// Whether an attribute matches `patterns` and does not match `not`; lists that are unset say
    /// nothing. An attribute that is absent matches nothing.
    pub fn accepted<P: Pattern>(
        &self,
        attribute: Attribute,
        patterns: &List<P>,
        not: &List<P>,
        judge: Judge,
    ) -> bool {
        if patterns.is_unset() && not.is_unset() {
            return true;
        }
        let values = self.get(attribute);
        let all = |list: &List<P>| !values.is_empty() && values.iter().all(|v| list.matches(v));
        let any = |list: &List<P>| values.iter().any(|value| list.matches(value));
        match judge {
            Judge::All => (patterns.is_unset() || all(patterns)) && !any(not),
            Judge::Any => (patterns.is_unset() || any(patterns)) && !all(not),
        }
    }

    fn get(&self, attribute: Attribute) -> Rc<[String]> {
        let known = self.known.borrow().iter().find(|(key, _)| *key == attribute).cloned();
        if let Some((_, values)) = known {
            return values;
        }
        let values: Rc<[String]> = self.read(&attribute).into();
        self.known.borrow_mut().push((attribute, values.clone()));
        values
    }

    fn read(&self, attribute: &Attribute) -> Vec<String> {
        let text = |path: &[&str]| {
            self.req.text_property(path).filter(|text| !text.is_empty()).into_iter().collect()
        };
        match attribute {
            Attribute::Method => vec![self.req.method()],
            Attribute::Path => readings(&self.req.path()),
            Attribute::Host => vec![self.req.authority()],
            Attribute::Port => {
                let port = self.req.integer_property(&["destination", "port"]);
                port.map(|port| port.to_string()).into_iter().collect()
            }
            Attribute::Address => self
                .req
                .peer()
                .map(|peer| peer.ip().to_canonical().to_string())
                .into_iter()
                .collect(),
            Attribute::Principal => {
                let uris: Vec<String> = text(&["connection", "uri_san_peer_certificate"]);
                let spiffe = |uri: &String| uri.strip_prefix("spiffe://").map(str::to_owned);
                uris.iter().filter_map(spiffe).collect()
            }
            Attribute::Namespace => {
                let principals = self.get(Attribute::Principal);
                principals.iter().filter_map(|principal| namespace(principal)).collect()
            }
            Attribute::ServerName => text(&["connection", "requested_server_name"]),
            Attribute::Header(name) => self.req.headers(name),
        }
    }
}

/// `TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`
fn namespace(principal: &str) -> Option<String> {
    match principal.split('/').collect::<Vec<_>>().as_slice() {
        [_, "ns", namespace, "sa", _] => Some((*namespace).to_owned()),
        _ => None,
    }
}

/// The path as upstreams may read it, without query: with an encoded slash as part of a name and,
/// where that differs, as a slash.
pub fn readings(path: &str) -> Vec<String> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let kept = plain(&decode(path, is_unreserved));
    let split = plain(&decode(path, |byte| is_unreserved(byte) || matches!(byte, b'/' | b'\\')));
    if kept == split { vec![kept] } else { vec![kept, split] }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Decodes the percent-encoded bytes that `wanted` names, once; the others get upper-case digits.
fn decode(path: &str, wanted: impl Fn(u8) -> bool) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match (byte, digits) {
            (Some(byte), _) if wanted(byte) => {
                decoded.push(char::from(byte));
                &after[2..]
            }
            (_, Some(digits)) => {
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
                &after[2..]
            }
            _ => {
                decoded.push('%');
                after
            }
        };
    }
    decoded.push_str(rest);
    decoded
}

/// Backslashes as slashes, slashes merged, `.` and `..` resolved (RFC 3986, 5.2.4).
fn plain(path: &str) -> String {
    if !path.starts_with(['/', '\\']) {
        return path.to_owned();
    }
    let mut names: Vec<&str> = Vec::new();
    let mut folder = false;
    for name in path.split(['/', '\\']) {
        folder = matches!(name, "" | "." | "..");
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let end = if folder && !names.is_empty() { "/" } else { "" };
    format!("/{}{end}", names.join("/"))
}
