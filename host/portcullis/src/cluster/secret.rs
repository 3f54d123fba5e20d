//! Secrets, looked up one by one, by name, when somebody needs them.
//!
//! Nothing of them is kept here, and nothing that they hold is in any error.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as Wire;
use tokio::time::timeout;

use super::api::{Api, Failure};
use super::{Access, Backoff, Patience};

/// The type of a Secret that `kubectl create secret docker-registry` makes, and its key.
const CONFIG: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
/// The one before: what stands there is the inside of `auths`.
const LEGACY: (&str, &str) = ("kubernetes.io/dockercfg", ".dockercfg");

/// A way to Secrets.
#[derive(Clone, Debug)]
pub struct Secrets {
    access: Access,
    patience: Patience,
}

/// Why a Secret gives no docker config.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It could not be looked up.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// It is of another type.
    #[error("its type is {0}, not {config}", config = CONFIG.0)]
    Type(String),
    /// The key of its type is missing.
    #[error("it has no key {0}")]
    Key(&'static str),
}

impl Secrets {
    /// Nothing is asked yet.
    pub fn new(access: Access, patience: Patience) -> Secrets {
        Secrets { access, patience }
    }

    /// The docker config of a Secret as it is now: one GET, with credentials read anew.
    ///
    /// # Errors
    /// There is no such Secret, it may not be read, or it holds no docker config.
    pub async fn docker_config(&self, namespace: &str, name: &str) -> Result<Bytes, Unusable> {
        let secret = self.read(namespace, name).await?;
        let kind = secret.type_.unwrap_or_default();
        let mut values = secret.data.unwrap_or_default();
        let mut take = |key| values.remove(key).ok_or(Unusable::Key(key));
        match kind {
            kind if kind == CONFIG.0 => Ok(take(CONFIG.1)?.0.into()),
            kind if kind == LEGACY.0 => Ok(wrapped(&take(LEGACY.1)?)),
            kind => Err(Unusable::Type(kind)),
        }
    }

    /// What stands under the keys of a Secret as it is now, whatever its type: one GET, with credentials read anew.
    ///
    /// # Errors
    /// There is no such Secret, or it may not be read.
    pub async fn values(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, Bytes>, Failure> {
        let values = self.read(namespace, name).await?.data.unwrap_or_default();
        Ok(values.into_iter().map(|(key, value)| (key, value.0.into())).collect())
    }

    /// Pauses after failures.
    pub fn backoff(&self) -> Backoff {
        Backoff::new(&self.patience)
    }

    /// How long to wait before a Secret is read again; with jitter, so that proxies do not come together.
    pub fn pause(&self) -> Duration {
        self.patience.reread.mul_f64(0.75 + fastrand::f64() / 4.0)
    }

    async fn read(&self, namespace: &str, name: &str) -> Result<Wire, Failure> {
        let patience = self.patience.answer;
        let late = || Failure::Unreachable(format!("none within {} s", patience.as_secs_f64()));
        timeout(patience, self.ask(namespace, name)).await.map_err(|_| late())?
    }

    async fn ask(&self, namespace: &str, name: &str) -> Result<Wire, Failure> {
        let api = Api::new(&self.access, self.patience).await?;
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        let bytes = api.bytes(&path).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            // What serde quotes may be what the Secret holds.
            let (line, column) = (error.line(), error.column());
            Failure::Nonsense(format!("no Secret (line {line}, column {column})"))
        })
    }
}

/// A whole docker config.
fn wrapped(auths: &ByteString) -> Bytes {
    [b"{\"auths\":", auths.0.as_slice(), b"}"].concat().into()
}
