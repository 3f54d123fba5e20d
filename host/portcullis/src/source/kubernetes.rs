//! The ConfigMaps of a cluster as source objects: those of the pod's own namespace, and those of the mesh-wide one.
//!
//! A thread of its own keeps a local copy of them; a round reads that copy, whatever the API server does meanwhile. This
//! module says which keys are documents; which of two objects of the same name counts is for `plan` to say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis_proxy::observe::rfc3339;
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use super::{Change, Fate, Lost, Object, Reading, Text};
use crate::cluster::{
    Access, Api, ConfigMap, Failure, Herald, Mirror, Notice, Patience, ROOT_NAMESPACE, SELECTOR,
    Standing, denial, follow,
};
use crate::diagnose::{Code, Problem};
use crate::fetch::{ConfigMaps, split_config_map};
use crate::plan::CONFIG_MAP;
use crate::spec::{Home, Reach};

const ENDINGS: [&str; 3] = [".yaml", ".yml", ".json"];
/// How long the first reading waits for the API server.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// Which ConfigMaps are meant, and how to get at them.
#[derive(Clone, Debug)]
pub struct KubernetesSettings {
    /// Credentials.
    pub access: Access,
    /// `None`: the pod's, or that of the kubeconfig's context.
    pub namespace: Option<String>,
    /// Of what concerns every proxy.
    pub root_namespace: String,
    /// A label selector.
    pub selector: String,
    /// How long to wait for what.
    pub patience: Patience,
}

impl Default for KubernetesSettings {
    fn default() -> KubernetesSettings {
        KubernetesSettings {
            access: Access::default(),
            namespace: None,
            root_namespace: ROOT_NAMESPACE.to_owned(),
            selector: SELECTOR.to_owned(),
            patience: Patience::default(),
        }
    }
}

/// A cluster that is followed. The thread ends when this is dropped.
pub struct Kubernetes {
    view: Arc<View>,
    /// Those of the last reading.
    config_maps: ConfigMaps,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What others may know of a cluster.
pub struct View {
    server: String,
    near: Arc<str>,
    root: Arc<str>,
    selector: Arc<str>,
    mirror: Arc<Mirror>,
    herald: Arc<Herald>,
    /// `resourceVersion` of each ConfigMap that has been judged.
    judged: Mutex<BTreeMap<String, String>>,
}

impl Kubernetes {
    /// Starts to follow; `door` is knocked at when something has changed.
    ///
    /// # Errors
    /// Nobody says where the API server is, or there is no thread. That it does not answer is no error.
    pub fn start(
        settings: KubernetesSettings,
        door: Sender<Change>,
    ) -> Result<Kubernetes, Failure> {
        let unable = |error: io::Error| Failure::Access(error.to_string());
        let KubernetesSettings { access, namespace, root_namespace, selector, patience } = settings;
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(unable)?;
        let api = runtime.block_on(Api::new(&access, patience))?;
        let near: Arc<str> = namespace.as_deref().unwrap_or(api.namespace()).into();
        let root: Arc<str> = root_namespace.into();
        let changed = move || {
            // Nobody listens only while the process ends.
            let _ = door.send(Change::Maybe);
        };
        let mirror = Arc::new(Mirror::new([near.clone(), root.clone()], changed));
        let view = Arc::new(View {
            server: api.server().to_owned(),
            near,
            root,
            selector: selector.into(),
            mirror,
            herald: Arc::default(),
            judged: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let followed = view.clone();
        let thread = thread::Builder::new()
            .name("kubernetes".to_owned())
            .spawn(move || followed.follow(runtime, &access, patience, stopped))
            .map_err(unable)?;
        let config_maps = ConfigMaps::default();
        Ok(Kubernetes { view, config_maps, stop: Some(stop), thread: Some(thread) })
    }

    /// What others may know.
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    pub(super) fn read(&mut self, reading: &mut Reading) {
        self.view.mirror.wait(FIRST_ANSWER);
        let mut all = Vec::new();
        let namespaces = self.view.mirror.read();
        for namespace in [&self.view.near, &self.view.root] {
            let Some((listed, standing)) = namespaces.get(namespace) else { continue };
            match listed {
                Some(maps) => all.extend(maps.values().cloned()),
                None => reading.lost.push(Lost {
                    place: format!("{CONFIG_MAP}{namespace}"),
                    problem: problem(namespace, standing.failure.as_ref()),
                }),
            }
            if self.view.near == self.view.root {
                break;
            }
        }
        reading.objects.extend(all.iter().filter_map(|map| self.object(map)));
        self.config_maps = ConfigMaps::new(all);
        reading.config_maps = self.config_maps.clone();
    }

    /// Everything that was read last has been judged.
    pub(super) fn judged(&self) {
        *self.view.judged.lock().unwrap_or_else(PoisonError::into_inner) =
            self.config_maps.revisions();
    }

    /// Says it at the ConfigMap itself, and at those whose modules it refers to.
    pub(super) fn tell(&self, fates: Vec<Fate>) {
        for fate in fates {
            let Some(name) = fate.name.strip_prefix(CONFIG_MAP) else { continue };
            let (reason, said) = match &fate.refused {
                None => ("Applied", "this version is live".to_owned()),
                Some(problem) => ("Refused", problem.to_string()),
            };
            let through = fate.refers_to.iter().filter_map(|path| Some(split_config_map(path)?.0));
            let mut about: Vec<&str> = through.filter(|other| *other != name).collect();
            about.dedup();
            for (other, own) in about.into_iter().map(|other| (other, false)).chain([(name, true)])
            {
                let Some(about) = self.config_maps.get(other).cloned() else { continue };
                let message = if own { said.clone() } else { format!("{}: {said}", fate.name) };
                let warning = fate.refused.is_some();
                self.view.herald.say(Notice { about, reason, warning, message });
            }
        }
    }

    /// `None`: it has no documents.
    fn object(&self, map: &ConfigMap) -> Option<Object> {
        let name: Arc<str> = format!("{CONFIG_MAP}{}/{}", map.namespace, map.name).into();
        let documents =
            map.values.iter().filter(|(key, _)| ENDINGS.iter().any(|ending| key.ends_with(ending)));
        let text = |(key, value): (&String, &crate::cluster::Value)| -> Result<Text, Arc<str>> {
            let text = str::from_utf8(&value.bytes)
                .map_err(|error| format!("{key} is not UTF-8 from byte {}", error.valid_up_to()))?;
            Ok(Text { name: format!("{name}/{key}").into(), text: text.into() })
        };
        let texts: Result<Vec<Text>, Arc<str>> = documents.map(text).collect();
        if texts.as_ref().is_ok_and(Vec::is_empty) {
            return None;
        }
        let reach = match map.namespace == self.view.near {
            true => Reach::Near,
            false => Reach::Mesh,
        };
        let home = Home { namespace: self.view.near.clone(), reach };
        Some(Object::of(name, home, texts))
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

impl View {
    fn follow(
        &self,
        runtime: Runtime,
        access: &Access,
        patience: Patience,
        stopped: oneshot::Receiver<()>,
    ) {
        let following = |namespace: &Arc<str>| {
            let (selector, mirror) = (self.selector.clone(), self.mirror.clone());
            follow(access.clone(), patience, namespace.clone(), selector, mirror)
        };
        runtime.spawn(following(&self.near));
        if self.root != self.near {
            runtime.spawn(following(&self.root));
        }
        let (herald, access) = (self.herald.clone(), access.clone());
        runtime.spawn(async move { herald.speak(access, patience).await });
        // It ends when its other half is dropped.
        let _ = runtime.block_on(stopped);
        // Looking a name up may take long.
        runtime.shutdown_background();
    }

    /// What is followed: the same at every start with the same settings.
    pub fn identity(&self) -> String {
        format!("{} {} {} {}", self.server, self.near, self.root, self.selector)
    }

    /// Since when changes may go unseen; `None`: they are seen.
    pub fn stale_since(&self) -> Option<SystemTime> {
        self.mirror.standing().values().filter_map(|one| one.stale_since).min()
    }

    /// `resourceVersion` of each ConfigMap that has been judged, by `NAMESPACE/NAME`.
    pub fn judged(&self) -> BTreeMap<String, String> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The cluster's part of `/status`. `judged`: as it was before the sources were looked at, which are never older then.
    pub fn status(&self, judged: &BTreeMap<String, String>) -> Value {
        let namespace = |(name, standing): (&Arc<str>, &Standing)| {
            json!({
                "namespace": &**name,
                "resource_version": standing.resource_version,
                "heard": standing.heard.map(rfc3339),
                "stale_since": standing.stale_since.map(rfc3339),
                "problem": standing.failure.as_ref().map(|failure| problem(name, Some(failure))),
                "failures_total": standing.failures_total,
                "lists_total": standing.lists_total,
            })
        };
        json!({
            "server": self.server,
            "namespace": &*self.near,
            "root_namespace": &*self.root,
            "selector": &*self.selector,
            "stale_since": self.stale_since().map(rfc3339),
            "namespaces": self.mirror.standing().iter().map(namespace).collect::<Vec<_>>(),
            "config_maps": judged,
            "events_problem": self.herald.failure().map(|failure| failure.to_string()),
        })
    }

    /// The cluster's lines of `/metrics`.
    pub fn metrics(&self) -> String {
        let seconds = |time: SystemTime| {
            time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64().to_string()
        };
        type Show<'a> = &'a dyn Fn(&Standing) -> String;
        let metrics: [(&str, &str, &str, Show<'_>); 3] = [
            (
                "stale_since_timestamp_seconds",
                "gauge",
                "Since when changes of ConfigMaps may go unseen; 0: they are seen.",
                &|standing| standing.stale_since.map_or_else(|| "0".to_owned(), seconds),
            ),
            ("failures_total", "counter", "Requests to the API server that failed.", &|standing| {
                standing.failures_total.to_string()
            }),
            ("lists_total", "counter", "Whole lists of ConfigMaps.", &|standing| {
                standing.lists_total.to_string()
            }),
        ];
        let standing = self.mirror.standing();
        let mut text = String::new();
        for (name, kind, help, show) in metrics {
            let name = format!("portcullis_kubernetes_{name}");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (namespace, standing) in &standing {
                let _ = writeln!(text, "{name}{{namespace=\"{namespace}\"}} {}", show(standing));
            }
        }
        text
    }
}

/// Why a namespace cannot be followed.
fn problem(namespace: &str, failure: Option<&Failure>) -> Problem {
    let Some(failure) = failure else {
        let title = format!("the ConfigMaps of namespace {namespace} are not known yet");
        return Problem::new(Code::P0421, title).because("the API server has not answered");
    };
    let what = format!("list and watch configmaps in namespace {namespace}");
    let grant =
        "grant the account list and watch on configmaps there, with a Role and a RoleBinding";
    denial(failure, &what, grant).unwrap_or_else(|| {
        let title = format!("cannot follow the ConfigMaps of namespace {namespace}");
        let problem = Problem::new(Code::P0421, title).because(failure.to_string());
        problem.hint("what was known stays live; it is tried again")
    })
}
