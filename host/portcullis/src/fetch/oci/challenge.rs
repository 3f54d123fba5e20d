//! What a registry wants to see before it answers: the `www-authenticate` header, RFC 9110, 11.6.1.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// One way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password.
    Basic,
    /// A token of the service at `realm`.
    Bearer {
        /// A URL.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it permits.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Those that we can answer, in the order in which they stand.
    pub fn of(headers: &HeaderMap) -> Vec<Challenge> {
        let texts = headers.get_all(WWW_AUTHENTICATE).into_iter();
        texts.filter_map(|text| text.to_str().ok()).flat_map(read).collect()
    }
}

fn read(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for part in parts(text) {
        let part = part.trim();
        let (scheme, parameter) = match part.split_once(char::is_whitespace) {
            Some((scheme, parameter)) if !scheme.contains('=') => (Some(scheme), parameter.trim()),
            _ if !part.contains('=') => (Some(part), ""),
            _ => (None, part),
        };
        if let Some(scheme) = scheme.filter(|scheme| !scheme.is_empty()) {
            challenges.push((scheme.to_ascii_lowercase(), Vec::new()));
        }
        if let (Some((_, parameters)), Some((name, value))) =
            (challenges.last_mut(), parameter.split_once('='))
        {
            let value = value.trim().trim_matches('"').replace("\\\"", "\"");
            parameters.push((name.trim().to_ascii_lowercase(), value));
        }
    }
    challenges.into_iter().filter_map(|(scheme, parameters)| known(&scheme, parameters)).collect()
}

/// Split at commas outside quotes.
fn parts(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let outside = move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    };
    text.split(outside).collect()
}

fn known(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    let named = |wanted: &str| {
        let found = parameters.iter().find(|(name, value)| name == wanted && !value.is_empty());
        found.map(|(_, value)| value.clone())
    };
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: named("realm")?,
            service: named("service"),
            scope: named("scope"),
        }),
        _ => None,
    }
}
