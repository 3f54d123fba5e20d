//! Comparing single values: paths, headers, query parameters, properties that filters have stored.

use std::borrow::Cow;
use std::sync::OnceLock;

use http::Method;
use http::header::{HOST, HeaderName};
use percent_encoding::percent_decode;
use portcullis_vm::{FilterState, PROPERTY_PREFIX, RequestHead};
use regex::Regex;

use crate::snapshot::ValueMatch;

/// Compares a whole value.
#[derive(Debug)]
pub(super) enum Pattern {
    Exact(String),
    Regex(Whole),
}

/// A regular expression that must match a whole value.
#[derive(Debug)]
pub(super) struct Whole {
    regex: Regex,
    anchored: OnceLock<Option<Regex>>,
}

impl From<&Regex> for Whole {
    fn from(regex: &Regex) -> Whole {
        Whole { regex: regex.clone(), anchored: OnceLock::new() }
    }
}

impl Whole {
    fn matches(&self, value: &str) -> bool {
        match self.regex.find(value) {
            None => false,
            Some(found) if found.len() == value.len() => true,
            // A part of it matches; whether the whole does as well (`a|ab` on `ab`) only anchors can tell.
            Some(_) => self.anchored().is_some_and(|anchored| anchored.is_match(value)),
        }
    }

    fn anchored(&self) -> Option<&Regex> {
        // The line feed ends a comment that the pattern may end with; `x` mode ignores it, others must not see it.
        let wrap = |end: &str| Regex::new(&format!(r"\A(?:{}{end})\z", self.regex.as_str())).ok();
        let compile = || wrap("").or_else(|| wrap("\n"));
        self.anchored.get_or_init(compile).as_ref()
    }
}

impl Pattern {
    pub(super) fn new(value: &ValueMatch) -> Pattern {
        match value {
            ValueMatch::Exact(value) => Pattern::Exact(value.clone()),
            ValueMatch::Regex(regex) => Pattern::Regex(regex.into()),
        }
    }

    pub(super) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Pattern::Exact(wanted) => wanted.as_bytes() == value,
            Pattern::Regex(wanted) => {
                std::str::from_utf8(value).is_ok_and(|value| wanted.matches(value))
            }
        }
    }

    pub(super) fn characters(&self) -> usize {
        match self {
            Pattern::Exact(wanted) => wanted.chars().count(),
            Pattern::Regex(wanted) => wanted.regex.as_str().chars().count(),
        }
    }
}

pub(super) fn method_matches(wanted: Option<&Method>, method: &Method) -> bool {
    wanted.is_none_or(|wanted| wanted == method)
}

/// Repeated headers are joined with `,`; `host` is the authority.
pub(super) fn header_matches(head: &RequestHead, name: &HeaderName, wanted: &Pattern) -> bool {
    if name == HOST {
        return wanted.matches(&head.authority);
    }
    let mut values = head.headers.get_all(name);
    let Some(first) = values.next() else { return false };
    let Some(second) = values.next() else { return wanted.matches(first) };
    let mut joined = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        joined.push(b',');
        joined.extend_from_slice(value);
    }
    wanted.matches(&joined)
}

/// The property that a header match of this name is about. A client's header of such a name is never compared.
pub(super) fn property_name(name: &HeaderName) -> Option<&str> {
    name.as_str().strip_prefix(PROPERTY_PREFIX)
}

/// `name` is in lower case, as names of headers are; that of the property need not be.
pub(super) fn property_matches(stored: &FilterState, name: &str, wanted: &Pattern) -> bool {
    let same = |path: &[u8]| path.eq_ignore_ascii_case(name.as_bytes());
    let found = stored.iter().find(|state| state.property().is_some_and(same));
    found.is_some_and(|state| wanted.matches(state.value()))
}

/// Path and query, without the `?` between them.
pub(super) fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&path[..mark], &path[mark + 1..]),
        None => (path, &[]),
    }
}

/// The parameters of a query, undecoded.
pub(super) struct Query<'a>(pub(super) &'a [u8]);

impl<'a> Query<'a> {
    /// The first value of a parameter; a parameter without `=` has an empty one.
    pub(super) fn first(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.0.split(|byte| *byte == b'&').find_map(|pair| {
            let (key, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(equals) => (&pair[..equals], &pair[equals + 1..]),
                None => (pair, &[][..]),
            };
            let same = !pair.is_empty() && percent_decode(key).eq(name.bytes());
            same.then(|| percent_decode(value).into())
        })
    }
}
