//! Events: what became of a ConfigMap, said where `kubectl describe` shows it.
//!
//! One version of a ConfigMap with one outcome is one event, whoever reports it first, since its name is made of what it
//! says. Only the newest outcome of each ConfigMap waits, and a process says little in a row: events are for people, and
//! nothing depends on them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::Method;
use portcullis_proxy::observe::rfc3339;
use portcullis_vm::Digest;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{self, Instant};

use super::api::{Api, Failure};
use super::backoff::Backoff;
use super::config_map::ConfigMap;
use super::{Access, Patience};

/// Events at once.
const BURST: u32 = 20;
/// And then one in this time.
const PACE: Duration = Duration::from_secs(3);
/// What the API server takes.
const MESSAGE_BYTES: usize = 1024;
/// ConfigMaps of which we know what was said last.
const REMEMBERED: usize = 4096;
/// Characters of a ConfigMap's name in an event's.
const NAME_CHARS: usize = 200;

/// What is to be said.
#[derive(Clone, Debug)]
pub struct Notice {
    /// About whom.
    pub about: Arc<ConfigMap>,
    /// A word in capitals and small letters, such as `Applied`.
    pub reason: &'static str,
    /// Whether somebody should look.
    pub warning: bool,
    /// For people.
    pub message: String,
}

/// What waits to be said.
#[derive(Default)]
pub struct Herald {
    waiting: Mutex<BTreeMap<String, Notice>>,
    bell: Notify,
    failure: Mutex<Option<Failure>>,
}

impl Herald {
    /// Takes a notice; one about the same ConfigMap that still waits is forgotten.
    pub fn say(&self, notice: Notice) {
        let about = format!("{}/{}", notice.about.namespace, notice.about.name);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(about, notice);
        self.bell.notify_one();
    }

    /// Why the last event could not be created; `None`: it could.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what waits, for ever. Cancel safe.
    pub async fn speak(&self, access: Access, patience: Patience) {
        let mut said: HashMap<String, String> = HashMap::new();
        let mut pace = Pace { left: BURST, since: Instant::now() };
        let mut backoff = Backoff::new(&patience);
        let (mut way, mut last) = (None, String::new());
        loop {
            let Some((about, notice)) = self.next(&last) else {
                self.bell.notified().await;
                continue;
            };
            last.clone_from(&about);
            let name = name(&notice);
            if said.get(&about) == Some(&name) {
                continue;
            }
            pace.wait().await;
            let api = match way.take() {
                Some(api) => Ok(api),
                None => Api::new(&access, patience).await,
            };
            let created = match &api {
                Ok(api) => create(api, &notice, &name).await,
                Err(failure) => Err(failure.clone()),
            };
            way = api.ok().filter(|_| created.is_ok());
            self.note(&notice, created.as_ref().err());
            match created {
                Ok(()) => backoff.reset(),
                Err(failure) if is_passing(&failure) => {
                    self.again(about, notice);
                    time::sleep(backoff.pause(failure.retry_after())).await;
                    continue;
                }
                Err(_) => {}
            }
            if said.len() >= REMEMBERED {
                said.clear();
            }
            said.insert(about, name);
        }
    }

    /// Each has its turn, by name: one that changes all the time keeps nobody from being heard.
    fn next(&self, last: &str) -> Option<(String, Notice)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let after = (Bound::Excluded(last), Bound::Unbounded);
        let name = waiting.range::<str, _>(after).chain(waiting.iter()).next()?.0.clone();
        waiting.remove_entry(&name)
    }

    /// Unless there is something newer by now.
    fn again(&self, about: String, notice: Notice) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(about).or_insert(notice);
    }

    fn note(&self, notice: &Notice, failure: Option<&Failure>) {
        let mut known = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = failure.filter(|failure| known.as_ref() != Some(*failure)) {
            let namespace = &*notice.about.namespace;
            tracing::warn!(namespace, "cannot create an event: {failure}");
        }
        *known = failure.cloned();
    }
}

struct Pace {
    left: u32,
    since: Instant,
}

impl Pace {
    async fn wait(&mut self) {
        let earned = self.since.elapsed().as_secs() / PACE.as_secs();
        if earned > 0 {
            self.since = Instant::now();
            let earned = u32::try_from(earned).unwrap_or(BURST);
            self.left = self.left.saturating_add(earned).min(BURST);
        }
        if self.left == 0 {
            time::sleep_until(self.since + PACE).await;
            self.since = Instant::now();
            return;
        }
        self.left -= 1;
    }
}

async fn create(api: &Api, notice: &Notice, name: &str) -> Result<(), Failure> {
    let path = format!("/api/v1/namespaces/{}/events", notice.about.namespace);
    let body = event(notice, name);
    match api.ask::<IgnoredAny>(Method::POST, &path, "application/json", Some(&body)).await {
        Ok(_) => Ok(()),
        // Somebody else has said it.
        Err(failure) if failure.status() == Some(409) => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn is_passing(failure: &Failure) -> bool {
    match failure.status() {
        // A token may have been rotated; it is read anew.
        Some(status) => matches!(status, 401 | 429) || status >= 500,
        None => true,
    }
}

fn name(notice: &Notice) -> String {
    let ConfigMap { name, uid, resource_version, .. } = &*notice.about;
    let said = format!("{uid} {resource_version} {} {}", notice.reason, notice.message);
    let digest: String = Digest::of(said.as_bytes()).to_string().chars().take(16).collect();
    let begin: String = name.chars().take(NAME_CHARS).collect();
    format!("{}.{digest}", begin.trim_end_matches(['.', '-']))
}

fn event(notice: &Notice, name: &str) -> Value {
    let ConfigMap { namespace, name: about, uid, resource_version, .. } = &*notice.about;
    let now = rfc3339(SystemTime::now());
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    let mut end = notice.message.len().min(MESSAGE_BYTES);
    while !notice.message.is_char_boundary(end) {
        end -= 1;
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": &**namespace, "name": name},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "namespace": &**namespace,
            "name": &**about,
            "uid": uid,
            "resourceVersion": resource_version,
        },
        "type": if notice.warning { "Warning" } else { "Normal" },
        "reason": notice.reason,
        "message": notice.message.get(..end),
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": "portcullis", "host": host},
        "reportingComponent": "portcullis.dev/proxy",
        "reportingInstance": host,
    })
}
