//! One module to be brought from somewhere else: what is wanted, and what of it is here already.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use portcullis_vm::Digest;
use sha2::{Digest as _, Sha256};

use super::Version;
use super::downloads::{Downloads, Known, Lease};
use super::error::{FetchError, FetchErrorKind};
use super::evidence;
use super::http::{Client, Origin, shown};
use super::oci::Reference;
use crate::cluster::Secrets;
use crate::plan::{PullSecret, Registry, TIMEOUT};
use crate::signature::Trust;
use crate::spec::filter::PullPolicy;

/// What a document says about a module from elsewhere.
#[derive(Clone, Debug)]
pub struct Order {
    /// `oci://…` (or without scheme), `https://…`, `http://…`
    pub url: String,
    /// For an image the digest of its index or manifest, else that of the module.
    pub sha256: Option<Digest>,
    /// Whether a tag that was looked up before is looked up again.
    pub policy: PullPolicy,
    /// Hosts that the operator named.
    pub registries: Arc<[Registry]>,
    /// Keys, of which one of each group has to have signed; for images only.
    pub trust: Vec<Trust>,
    /// A docker config that goes before those of the hosts.
    pub secret: Option<PullSecret>,
    /// Where those are that lie in the cluster; `None`: there is none.
    pub secrets: Option<Secrets>,
    /// Version of the document: with the policy `Always`, or with a Secret of the cluster, a new one looks again.
    pub occasion: Version,
}

/// What came of an order.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The url with the digest it came to.
    pub pinned: String,
    /// The image's index or manifest; the module, where it came from no registry.
    pub digest: Digest,
    /// Under which [`Downloads`] have it.
    pub module: Digest,
    /// Keeps it there.
    pub lease: Lease,
}

/// Whether the network may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Yes.
    #[default]
    Network,
    /// No: what is not here cannot be had.
    Offline,
}

/// Where it is.
pub(super) enum Address {
    Image(Reference),
    Web(Uri),
}

impl Order {
    /// What tells this order from others.
    pub(super) fn key(&self) -> Version {
        let held = matches!(self.secret, Some(PullSecret::Held { .. }));
        let occasion = (held || self.looks_again()).then_some(self.occasion);
        let mut hash = Sha256::new();
        for registry in &*self.registries {
            let texts = [
                registry.host.as_bytes(),
                if registry.plain_http { b"plain" } else { b"tls" },
                registry.ca.as_deref().unwrap_or_default(),
                registry.credentials.as_deref().unwrap_or_default(),
                &registry.timeout.as_millis().to_le_bytes(),
            ];
            texts.iter().for_each(|text| hash.update(Sha256::digest(text)));
        }
        let registries = Version(hash.finalize().into());
        let pin = self.sha256.map(|digest| Version(digest.0));
        let secret = self.secret.as_ref().map(|secret| match secret {
            PullSecret::Config(config) => Version::of(config),
            PullSecret::Held { namespace, name } => {
                Version::of(format!("{namespace}/{name}").as_bytes())
            }
        });
        Version::of(self.url.as_bytes()).with([
            Some(registries),
            pin,
            secret,
            occasion,
            evidence::version(&self.trust),
        ])
    }

    /// Istio's meaning: a digest is never looked up again; a tag is if the policy says so, or says nothing and the tag
    /// is `latest`.
    fn looks_again(&self) -> bool {
        let Ok(address) = self.address() else { return false };
        let (pinned, latest) = match &address {
            Address::Image(image) => (image.digest.is_some(), image.tag() == "latest"),
            Address::Web(_) => (self.sha256.is_some(), false),
        };
        let policy = match self.policy {
            PullPolicy::Always => true,
            PullPolicy::Unspecified => latest,
            PullPolicy::IfNotPresent => false,
        };
        policy && !pinned
    }

    pub(super) fn address(&self) -> Result<Address, FetchError> {
        if self.url.starts_with("http://") || self.url.starts_with("https://") {
            let wrong = |problem: http::uri::InvalidUri| {
                let title = format!("{:?} is no address", shown_url(&self.url));
                FetchError::new(FetchErrorKind::Reference, title, problem.to_string())
            };
            let uri: Uri = self.url.parse().map_err(wrong)?;
            Origin::of(&uri)?;
            return Ok(Address::Web(uri));
        }
        let image: Reference = self.url.parse()?;
        match (image.digest, self.sha256) {
            (Some(one), Some(other)) if one != other => {
                let title = "the url and sha256 name different digests";
                let cause = format!("sha256:{one} and sha256:{other}");
                Err(FetchError::new(FetchErrorKind::Reference, title, cause))
            }
            (own, pin) => Ok(Address::Image(Reference { digest: own.or(pin), ..image })),
        }
    }

    /// What is on this machine already and good enough; with [`Reach::Offline`] that is whatever is.
    pub(super) fn at_hand(&self, downloads: &Downloads, reach: Reach) -> Option<Delivery> {
        if self.looks_again() && reach == Reach::Network {
            return None;
        }
        let (name, module) = match self.address().ok()? {
            Address::Image(image) => (name_of(&image), None),
            Address::Web(uri) => (name_of_file(&uri), self.sha256),
        };
        let known = downloads.known(&name)?;
        if module.is_some_and(|pin| pin != known.module) {
            return None;
        }
        match evidence::is_kept(&self.trust, known.digest, downloads) {
            true => self.held(downloads, &known),
            false => None,
        }
    }

    fn held(&self, downloads: &Downloads, known: &Known) -> Option<Delivery> {
        let lease = downloads.lease(known.module)?;
        Some(self.delivery(known, lease))
    }

    pub(super) fn delivery(&self, known: &Known, lease: Lease) -> Delivery {
        let pinned = match self.address() {
            Ok(Address::Image(image)) => format!("oci://{}", image.pinned(known.digest)),
            _ => format!("{} (sha256:{})", shown_url(&self.url), known.digest),
        };
        Delivery { pinned, digest: known.digest, module: known.module, lease }
    }

    /// How long it may take.
    pub fn patience(&self) -> Duration {
        let Ok(address) = self.address() else { return TIMEOUT };
        let client = Client::new(self.registries.clone());
        let origin = match &address {
            Address::Image(image) => image.url(&Scheme::HTTPS, "").and_then(|url| Origin::of(&url)),
            Address::Web(uri) => Origin::of(uri),
        };
        let named = origin.ok().and_then(|origin| {
            let plain = Origin { secure: false, ..origin.clone() };
            client.named(&origin).or(client.named(&plain)).map(|registry| registry.timeout)
        });
        named.unwrap_or(TIMEOUT)
    }
}

/// Under which an image is remembered: a tag, or a digest whatever the tag.
pub(super) fn name_of(image: &Reference) -> String {
    match image.digest {
        Some(_) => Reference { tag: None, ..image.clone() }.to_string(),
        None => image.to_string(),
    }
}

/// Under which a file of a server is remembered; what its query holds stays out of it.
pub(super) fn name_of_file(uri: &Uri) -> String {
    format!("{} {}", shown(uri), Digest::of(uri.to_string().as_bytes()))
}

/// Without a query, which may hold a signature, and without a user, who may have a password.
pub(super) fn shown_url(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let host = rest.find('/').and_then(|end| rest.get(..end)?.rfind('@'));
    format!("{scheme}{}", host.and_then(|at| rest.get(at + 1..)).unwrap_or(rest))
}
