//! Secrets of the cluster with certificates and keys: each is read by its name, again and again as long as somebody uses it, so
//! that a renewed one is seen without a watch, and without a right to more than this one.
//!
//! That it is gone or forbidden counts at once; when the API server is in trouble, what was read before stays. What a
//! Secret holds is in no error, no log and no status.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use portcullis_proxy::observe::rfc3339;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::error::{FetchError, FetchErrorKind};
use super::remote::Remote;
use super::{Version, lock};
use crate::cluster::{Backoff, Failure, Secrets};
use crate::plan::TlsSecret;

/// How long the first configuration waits for Secrets.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// However many Secrets documents name, the API server is asked for so many at once.
const AT_ONCE: usize = 8;

/// All Secrets that are in use, by namespace and name.
#[derive(Clone, Default)]
pub(super) struct Keyring(Arc<Shared>);

struct Shared {
    followed: Mutex<BTreeMap<(String, String), Weak<Followed>>>,
    tried: Condvar,
    turns: Semaphore,
}

impl Default for Shared {
    fn default() -> Shared {
        let (followed, tried) = Default::default();
        Shared { followed, tried, turns: Semaphore::new(AT_ONCE) }
    }
}

/// A Secret, for all who use it.
pub(super) struct Followed {
    namespace: String,
    name: String,
    standing: Mutex<Standing>,
    again: Arc<Notify>,
}

struct Standing {
    /// `None`: nothing is known yet.
    known: Option<Known>,
    since: SystemTime,
    /// When it was last as the API server has it.
    read: Option<SystemTime>,
    /// Why it could not be read since.
    failure: Option<FetchError>,
}

/// What is in it, or why nothing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub found: Result<TlsSecret, FetchError>,
    pub version: Version,
}

impl Keyring {
    /// The Secret of this name, followed from now on.
    pub(super) fn follow(
        &self,
        (namespace, name): (&str, &str),
        secrets: Option<&Secrets>,
        remote: &Remote,
    ) -> Arc<Followed> {
        let mut followed = lock(&self.0.followed);
        followed.retain(|_, followed| followed.strong_count() > 0);
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(known) = followed.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Followed::new(namespace, name));
        followed.insert(key, Arc::downgrade(&new));
        drop(followed);
        let begun = match secrets {
            Some(secrets) => {
                let (keyring, announce) = (self.clone(), remote.announcer());
                let work = keep(Arc::downgrade(&new), secrets.clone(), keyring, announce);
                remote.spawn(work)
            }
            None => {
                let title = format!("cannot read the Secret {namespace}/{name}");
                let cause = "there is no cluster";
                Err(FetchError::new(FetchErrorKind::Certificate, title, cause))
            }
        };
        if let Err(error) = begun {
            new.tell(Err(error));
        }
        new
    }

    /// Waits until something is known of every Secret, no longer than an answer may take.
    pub(super) fn settle(&self) {
        let untried = |followed: &mut BTreeMap<_, Weak<Followed>>| {
            followed.values().filter_map(Weak::upgrade).any(|one| one.known().is_none())
        };
        let followed = lock(&self.0.followed);
        let waited = self.0.tried.wait_timeout_while(followed, FIRST_ANSWER, untried);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Reads all of them now.
    pub(super) fn hurry(&self) {
        let followed = lock(&self.0.followed);
        followed.values().filter_map(Weak::upgrade).for_each(|one| one.again.notify_one());
    }

    pub(super) fn status(&self) -> Value {
        let followed = lock(&self.0.followed);
        followed.values().filter_map(Weak::upgrade).map(|one| one.status()).collect()
    }

    fn wake(&self) {
        // Whoever settles looks and then waits, both under this lock.
        drop(lock(&self.0.followed));
        self.0.tried.notify_all();
    }
}

/// Reads a Secret until nobody uses it any more.
async fn keep(
    followed: Weak<Followed>,
    secrets: Secrets,
    keyring: Keyring,
    announce: impl Fn() + Send,
) {
    let mut backoff = secrets.backoff();
    loop {
        let Some(working) = followed.upgrade() else { return };
        let turn = keyring.0.turns.acquire().await;
        let read = secrets.values(&working.namespace, &working.name).await;
        drop(turn);
        let pause = pause(&secrets, &mut backoff, read.as_ref().err());
        let read = read.map(TlsSecret::new).map_err(|failure| {
            FetchError::of_certificate(&working.namespace, &working.name, &failure)
        });
        if working.tell(read) {
            keyring.wake();
            announce();
        }
        let again = working.again.clone();
        drop(working);
        // Asked for or not, it is time.
        if timeout(pause, again.notified()).await.is_ok() {
            backoff.reset();
        }
    }
}

fn pause(secrets: &Secrets, backoff: &mut Backoff, failure: Option<&Failure>) -> Duration {
    match failure {
        Some(failure) => backoff.pause(failure.retry_after()),
        None => {
            backoff.reset();
            secrets.pause()
        }
    }
}

impl Followed {
    fn new(namespace: &str, name: &str) -> Followed {
        let standing =
            Standing { known: None, since: SystemTime::now(), read: None, failure: None };
        Followed {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            standing: Mutex::new(standing),
            again: Arc::default(),
        }
    }

    pub(super) fn known(&self) -> Option<Known> {
        lock(&self.standing).known.clone()
    }

    pub(super) fn version(&self) -> Option<Version> {
        lock(&self.standing).known.as_ref().map(|known| known.version)
    }

    /// What was in it before this start counts until the API server says something else.
    pub(super) fn remember(&self, secret: TlsSecret) {
        lock(&self.standing).known.get_or_insert_with(|| Known::new(Ok(secret)));
    }

    /// True when it is something new.
    fn tell(&self, read: Result<TlsSecret, FetchError>) -> bool {
        let mut standing = lock(&self.standing);
        let trouble = read.as_ref().err().filter(|error| error.kind() == FetchErrorKind::Cluster);
        if let Some(trouble) = trouble.filter(|_| standing.known.is_some()) {
            if standing.failure.is_none() {
                tracing::warn!("{trouble}; what is known of it stays");
            }
            standing.failure = Some(trouble.clone());
            return false;
        }
        if read.is_ok() {
            standing.read = Some(SystemTime::now());
        }
        standing.failure = None;
        let known = Known::new(read);
        let news = standing.known.as_ref() != Some(&known);
        if news {
            tracing::info!(
                secret = format!("{}/{}", self.namespace, self.name),
                there = known.found.is_ok(),
                "what a Secret holds is new"
            );
            standing.known = Some(known);
            standing.since = SystemTime::now();
        }
        news
    }

    fn status(&self) -> Value {
        let standing = lock(&self.standing);
        let found = standing.known.as_ref().map(|known| &known.found);
        let word = match found {
            None => "reading",
            Some(Ok(_)) => "here",
            Some(Err(_)) => "failed",
        };
        let problem = standing.failure.as_ref().or_else(|| found.and_then(|it| it.as_ref().err()));
        json!({
            "name": format!("{}/{}", self.namespace, self.name),
            "state": word,
            "since": rfc3339(standing.since),
            "read": standing.read.map(rfc3339),
            "problem": problem.map(|error| json!({"code": error.code().as_str(), "text": error.to_string()})),
        })
    }
}

impl Known {
    fn new(found: Result<TlsSecret, FetchError>) -> Known {
        let version = match &found {
            Ok(secret) => {
                let parts = secret.values().flat_map(|(key, value)| [key.as_bytes(), value]);
                Version::of(b"").with(parts.map(|part| Some(Version::of(part))))
            }
            Err(error) => Version::of(error.to_string().as_bytes()),
        };
        Known { found, version }
    }
}
