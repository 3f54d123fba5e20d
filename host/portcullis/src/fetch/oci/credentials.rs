//! Names and passwords from a docker config: what `docker login` writes and a pull secret holds.

use std::collections::BTreeMap;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::HeaderValue;
use serde::Deserialize;

use super::Reference;

/// Who we are for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// May be empty with an identity token.
    pub user: String,
    /// May be empty with an identity token.
    pub password: String,
    /// An OAuth refresh token.
    pub identity: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Credentials {
    /// What `config`, a docker config, holds for the image: the entry whose key is the longest beginning of registry and
    /// repository. Programs that the config names for keeping passwords are not run.
    ///
    /// # Errors
    /// It is no docker config.
    pub fn of(config: &[u8], image: &Reference) -> Result<Option<Credentials>, String> {
        let config: Config = serde_json::from_slice(config).map_err(|problem| {
            // What serde quotes may be a password.
            format!("not a docker config (line {})", problem.line())
        })?;
        let name = format!("{}/{}", image.registry, image.repository);
        let covers = |key: &&str| {
            name.strip_prefix(*key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let keys = config.auths.iter().map(|(key, entry)| (bare(key), entry));
        let best = keys.filter(|(key, _)| covers(&key.as_str())).max_by_key(|(key, _)| key.len());
        best.map(|(key, entry)| {
            read(entry).ok_or_else(|| {
                format!(
                    "the entry for {key} holds no name and password; a helper (credsStore, \
                     credHelpers) that may have them is not asked"
                )
            })
        })
        .transpose()
    }

    /// The value of `authorization`; `None` where only an identity token is known.
    pub fn basic(&self) -> Option<HeaderValue> {
        if self.user.is_empty() {
            return None;
        }
        let text = BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password));
        secret(&format!("Basic {text}"))
    }
}

/// A header that no log shows.
pub(super) fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `https://index.docker.io/v1/` → `docker.io`
fn bare(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let key = key.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    match key.split_once('/') {
        _ if matches!(key, "index.docker.io" | "registry-1.docker.io") => "docker.io".to_owned(),
        Some(("index.docker.io", path)) => format!("docker.io/{path}"),
        _ => key.to_owned(),
    }
}

fn read(entry: &Entry) -> Option<Credentials> {
    let pair = match (&entry.username, &entry.password, &entry.auth) {
        (Some(user), Some(password), _) => Some((user.clone(), password.clone())),
        (_, _, Some(auth)) => {
            let text = String::from_utf8(BASE64_STANDARD.decode(auth.trim()).ok()?).ok()?;
            let (user, password) = text.split_once(':')?;
            Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
        }
        _ => None,
    };
    let identity = entry.identitytoken.clone().filter(|token| !token.is_empty());
    match (pair, &identity) {
        (None, None) => None,
        (pair, _) => {
            let (user, password) = pair.unwrap_or_default();
            Some(Credentials { user, password, identity })
        }
    }
}
