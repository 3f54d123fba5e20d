//! Where a request goes: scheme, host and port of a URL, and where a redirect leads.

use http::Uri;
use http::uri::Scheme;

use crate::fetch::error::{FetchError, FetchErrorKind};

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether TLS is spoken.
    pub secure: bool,
    /// In lower case; an IPv6 address without brackets.
    pub host: String,
    /// The scheme's own where the URL names none.
    pub port: u16,
}

impl Origin {
    /// Of an absolute `http://` or `https://` URL.
    ///
    /// # Errors
    /// It is none, or it carries a user.
    pub fn of(uri: &Uri) -> Result<Origin, FetchError> {
        let wrong = |cause: &str| {
            let title = format!("{} is no address", shown(uri));
            FetchError::new(FetchErrorKind::Reference, title, cause)
        };
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong("it begins with neither https:// nor http://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("names and passwords do not belong into it"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let usual = if secure { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(usual);
        Ok(Origin { secure, host: host.to_ascii_lowercase(), port })
    }

    /// `HOST` or `HOST:PORT`, as the `host` header and the Proxy's `registries` have it.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// A URL for people: without its query and without a user, which may hold what only we should know.
pub fn shown(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let authority = authority.rsplit('@').next().unwrap_or_default();
    format!("{}://{authority}{}", uri.scheme_str().unwrap_or_default(), uri.path())
}

/// Where `location`, sent by the server of `base`, leads.
///
/// # Errors
/// It is no address.
pub fn join(base: &Uri, location: &str) -> Result<Uri, FetchError> {
    let wrong = || {
        let title = format!("{} sends us to no address", shown(base));
        FetchError::new(FetchErrorKind::Damaged, title, format!("{location:?}"))
    };
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let absolute = match location {
        "" => return Err(wrong()),
        _ if location.contains("://") => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ => format!("{scheme}://{authority}{folder}/{location}"),
    };
    absolute.parse().map_err(|_| wrong())
}
