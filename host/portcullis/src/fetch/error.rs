//! Why something could not be fetched, in the words of `diagnose`.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

use crate::cluster::{Failure, Unusable};
use crate::diagnose::{Code, Problem};
use crate::plan::ModuleError;

/// What went wrong, and with what. Displays as one line, `title: cause`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{title}: {cause}")]
pub struct FetchError {
    kind: FetchErrorKind,
    title: String,
    cause: String,
    /// Whether the same request may well succeed a moment later.
    passing: bool,
    /// How long whoever answered wants to be left alone.
    wait: Duration,
}

/// The sorts of [`FetchError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchErrorKind {
    /// No reference of an image, no URL.
    Reference,
    /// Nobody answers, or not in a way that makes sense.
    Unreachable,
    /// Credentials are missing, wrong, or not enough.
    Denied,
    /// It was offered, and a registry does not take it.
    Refused,
    /// It is not there.
    Missing,
    /// An address that must not be dialled.
    Forbidden,
    /// Not the bytes that were asked for.
    Damaged,
    /// It took too long.
    Late,
    /// Not signed by whom it should be.
    Distrusted,
    /// It has to be signed, and signatures have no place there.
    Unsignable,
    /// An image without a module that can be found.
    Layout,
    /// An archive that must not be unpacked.
    Archive,
    /// It would have to be fetched, and nothing may be.
    Offline,
    /// More bytes than a module may have.
    TooLarge,
    /// This machine's own folder of fetched modules.
    Folder,
    /// The API server does not answer, and a Secret is needed.
    Cluster,
    /// A Secret must not be read.
    Right,
    /// A Secret is not there, or holds no docker config.
    Secret,
    /// A Secret that is to hold a certificate is not there.
    Certificate,
}

impl FetchError {
    /// `title` says what does not work, `cause` why; both in plain words.
    pub fn new(
        kind: FetchErrorKind,
        title: impl Into<String>,
        cause: impl Into<String>,
    ) -> FetchError {
        let passing = kind == FetchErrorKind::Unreachable;
        let (title, cause, wait) = (title.into(), cause.into(), Duration::ZERO);
        FetchError { kind, title, cause, passing, wait }
    }

    /// Why a Secret gives no docker config.
    pub(super) fn of_secret(namespace: &str, name: &str, reason: &Unusable) -> FetchError {
        let kind = match reason {
            Unusable::Failure(failure) => kind_of(failure, FetchErrorKind::Secret),
            Unusable::Type(_) | Unusable::Key(_) => FetchErrorKind::Secret,
        };
        let title = format!("cannot read the Secret {namespace}/{name}");
        FetchError::new(kind, title, reason.to_string())
    }

    /// Why a Secret with a certificate cannot be read.
    pub(super) fn of_certificate(namespace: &str, name: &str, failure: &Failure) -> FetchError {
        let kind = kind_of(failure, FetchErrorKind::Certificate);
        let title = format!("cannot read the Secret {namespace}/{name}");
        FetchError::new(kind, title, failure.to_string())
    }

    /// Makes it one that is not worth another request at once.
    pub(super) fn lasting(mut self) -> FetchError {
        self.passing = false;
        self
    }

    /// Makes it one that is.
    pub(super) fn again(mut self) -> FetchError {
        self.passing = true;
        self
    }

    /// With what the answer says of when to ask again: `retry-after` in seconds, RFC 9110, 10.2.3.
    pub(super) fn after(mut self, headers: &HeaderMap) -> FetchError {
        let text = headers.get(RETRY_AFTER).and_then(|text| text.to_str().ok());
        if let Some(seconds) = text.and_then(|text| text.trim().parse().ok()) {
            self.wait = Duration::from_secs(seconds);
            self.cause += &format!(", and wants to be asked again after {seconds} s");
        }
        self
    }

    /// How long whoever answered wants to be left alone.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// Which sort.
    pub fn kind(&self) -> FetchErrorKind {
        self.kind
    }

    /// What does not work.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Why.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// Whether the same request may well succeed a moment later.
    pub fn is_passing(&self) -> bool {
        self.passing
    }

    /// Whether somebody answered, in a way that makes no sense.
    pub(super) fn is_baffling(&self) -> bool {
        self.kind == FetchErrorKind::Unreachable && !self.passing
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self.kind {
            FetchErrorKind::Distrusted | FetchErrorKind::Unsignable => Code::P0213,
            FetchErrorKind::TooLarge => Code::P0402,
            FetchErrorKind::Reference => Code::P0403,
            FetchErrorKind::Unreachable => Code::P0404,
            FetchErrorKind::Denied => Code::P0405,
            FetchErrorKind::Missing => Code::P0406,
            FetchErrorKind::Refused => Code::P0415,
            FetchErrorKind::Forbidden => Code::P0407,
            FetchErrorKind::Damaged => Code::P0408,
            FetchErrorKind::Late => Code::P0409,
            FetchErrorKind::Layout => Code::P0410,
            FetchErrorKind::Archive => Code::P0411,
            FetchErrorKind::Offline => Code::P0412,
            FetchErrorKind::Folder => Code::P0414,
            FetchErrorKind::Cluster => Code::P0421,
            FetchErrorKind::Right => Code::P0422,
            FetchErrorKind::Secret | FetchErrorKind::Certificate => Code::P0424,
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self.kind {
            FetchErrorKind::Reference => "write oci://HOST/REPOSITORY:TAG or https://HOST/PATH",
            FetchErrorKind::Unreachable => {
                "is the host right, is it up, and may this machine reach it?"
            }
            FetchErrorKind::Denied => {
                "check the docker config of the registry (credentialsFile) or of the filter \
                 (imagePullSecret)"
            }
            FetchErrorKind::Refused => "does the registry take such images, and is there room?",
            FetchErrorKind::Missing => "check repository, tag and digest, and what was pushed",
            FetchErrorKind::Forbidden => {
                "name the host in the Proxy's registries, if it is one of yours; link-local addresses \
                 and those of metadata services are never dialled"
            }
            FetchErrorKind::Distrusted => "`portcullis explain P0213` says how modules are signed",
            FetchErrorKind::Unsignable => {
                "push it to a registry and sign it there; `required: false` in verification lets \
                 it run as it is"
            }
            FetchErrorKind::Damaged => "push it again, or ask who runs the registry",
            FetchErrorKind::Late => {
                "give the registry a longer `timeout`, or the module less weight"
            }
            FetchErrorKind::Layout => "push it anew: `portcullis explain P0410` lists what is read",
            FetchErrorKind::Archive => "look at what was packed, and who pushed it",
            FetchErrorKind::Offline => "fetch it once while there is a network: portcullis pull",
            FetchErrorKind::TooLarge => "strip debug information; `portcullis build` does",
            FetchErrorKind::Folder => "make the folder writable for this user only",
            FetchErrorKind::Cluster => "what was known stays live; it is tried again",
            FetchErrorKind::Right => {
                "grant the account get on secrets there, with a Role and a RoleBinding"
            }
            FetchErrorKind::Secret => {
                "make it with `kubectl create secret docker-registry`, in the namespace of the \
                 ConfigMap"
            }
            FetchErrorKind::Certificate => {
                "make it with `kubectl create secret tls`, in the namespace of the ConfigMap"
            }
        }
    }
}

/// `missing`: that it is not there.
fn kind_of(failure: &Failure, missing: FetchErrorKind) -> FetchErrorKind {
    match failure.status() {
        Some(401 | 403) => FetchErrorKind::Right,
        Some(404) => missing,
        _ => FetchErrorKind::Cluster,
    }
}

impl From<FetchError> for ModuleError {
    fn from(error: FetchError) -> ModuleError {
        let (code, hint) = (error.code(), error.hint());
        ModuleError::Fetch { code, title: error.title, cause: error.cause, hint }
    }
}

impl From<FetchError> for Problem {
    fn from(error: FetchError) -> Problem {
        let (code, hint) = (error.code(), error.hint());
        Problem::new(code, error.title).because(error.cause).hint(hint)
    }
}
