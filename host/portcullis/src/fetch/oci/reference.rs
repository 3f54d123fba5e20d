//! References of images, as people write them: `ghcr.io/acme/canary:1.2`, `canary@sha256:…`.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;
use portcullis_vm::Digest;

use crate::fetch::error::{FetchError, FetchErrorKind};

const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";
const LATEST: &str = "latest";

/// Where an image is. Displays in full: registry, repository, tag or digest, or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `HOST[:PORT]`; `docker.io` where none was written.
    pub registry: String,
    /// Path below the registry; `library/` is added for Docker Hub.
    pub repository: String,
    /// As written; [`Reference::tag`] has the default.
    pub tag: Option<String>,
    /// What the image's manifest or index has to hash to.
    pub digest: Option<Digest>,
}

impl Reference {
    /// The tag that is meant, where no digest is.
    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or(LATEST)
    }

    /// Tag or digest, as the registry's protocol wants it.
    pub fn version(&self) -> String {
        match self.digest {
            Some(digest) => format!("sha256:{digest}"),
            None => self.tag().to_owned(),
        }
    }

    /// The same image, pinned.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Reference {
        Reference { digest: Some(digest), ..self.clone() }
    }

    /// The URL of a resource of its repository, such as `manifests/1.2`.
    ///
    /// # Errors
    /// The registry is no host.
    pub fn url(&self, scheme: &Scheme, resource: &str) -> Result<Uri, FetchError> {
        let host = if self.registry == HUB { HUB_HOST } else { &self.registry };
        let url = format!("{scheme}://{host}/v2/{}/{resource}", self.repository);
        url.parse().map_err(|_| wrong(&self.to_string(), "its registry is no host"))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.tag, self.digest) {
            (Some(tag), _) => write!(f, ":{tag}")?,
            (None, None) => write!(f, ":{LATEST}")?,
            (None, Some(_)) => {}
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@sha256:{digest}"))
    }
}

impl FromStr for Reference {
    type Err = FetchError;

    /// With or without `oci://`. As Docker reads it: the part before the first `/` is a registry if it has a dot or a
    /// port, or is `localhost`.
    fn from_str(text: &str) -> Result<Reference, FetchError> {
        let rest = text.strip_prefix("oci://").unwrap_or(text);
        if let Some((user, image)) = rest.split_once('@')
            && !user.contains('/')
            && image.contains('/')
        {
            return Err(wrong(image, "names and passwords do not belong into it"));
        }
        let (rest, digest) = match rest.split_once('@') {
            None => (rest, None),
            Some((rest, digest)) => {
                let digest = sha256(digest)
                    .ok_or_else(|| wrong(text, "after @ stands sha256: and 64 digits"))?;
                (rest, Some(digest))
            }
        };
        let (registry, path) = match rest.split_once('/') {
            Some((host, path)) if is_registry(host) => (host.to_ascii_lowercase(), path),
            _ => (HUB.to_owned(), rest),
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong(text, "a tag has at most 128 letters, digits, `.`, `_` and `-`"));
        }
        if path.is_empty() || path.len() > 255 || !path.split('/').all(is_part) {
            let cause = "a repository has lower case letters and digits, and between them `.`, `_`, \
                         `-` and `/`";
            return Err(wrong(text, cause));
        }
        let registry = match registry.as_str() {
            "index.docker.io" | HUB_HOST => HUB.to_owned(),
            _ => registry,
        };
        let official = registry == HUB && !path.contains('/');
        let repository = if official { format!("library/{path}") } else { path.to_owned() };
        Ok(Reference { registry, repository, tag: tag.map(str::to_owned), digest })
    }
}

/// The digest in `sha256:…`.
pub fn sha256(text: &str) -> Option<Digest> {
    Digest::from_hex(text.strip_prefix("sha256:")?)
}

fn wrong(text: &str, cause: &str) -> FetchError {
    let title = format!("{text:?} is no reference of an image");
    FetchError::new(FetchErrorKind::Reference, title, cause)
}

fn is_registry(host: &str) -> bool {
    let named = host.contains(['.', ':']) || host == "localhost";
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    named && host.chars().all(plain)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
        && tag.bytes().next().is_some_and(word)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_part(part: &str) -> bool {
    let letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let separator =
        |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    part.as_bytes().first().is_some_and(letter)
        && part.as_bytes().last().is_some_and(letter)
        && separators.into_iter().all(separator)
}
