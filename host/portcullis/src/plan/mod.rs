//! Documents → snapshot: resolves every reference and collects *all* problems.
//!
//! A pure function of the documents and of what [`Modules`] hands out. It opens no file and no socket, remembers nothing
//! between two calls, and knows nothing of acceptance: who is refused for which problem is decided by `control`.

mod attach;
mod backend;
mod catalogue;
mod desk;
mod edits;
mod filter;
mod futile;
mod limits;
mod listener;
mod matches;
mod material;
mod module;
mod proxy;
mod registry;
mod route;
mod tcp_route;
mod trust;
mod words;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis_proxy::Snapshot;
use portcullis_vm::{Digest, LoadError, Module};

use crate::diagnose::{Code, Place, Problem};
use crate::signature::Trust;
use crate::spec::filter::PullPolicy;
use crate::spec::{self, Home};
use catalogue::Catalogue;
use desk::Desk;

pub use material::TlsSecret;
pub use module::PullSecret;
pub use registry::{Registry, TIMEOUT};

/// A file of documents, or a ConfigMap's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// A file's path as the user gave it; names in its documents are relative to its folder.
    pub name: Arc<str>,
    /// What it holds.
    pub text: Arc<str>,
    /// Where it comes from.
    pub home: Home,
}

/// Which module a filter wants.
#[derive(Clone, Copy, Debug)]
pub struct ModuleRequest<'a> {
    /// As the document has it, such as `file://canary.wasm`.
    pub url: &'a str,
    /// [`Source::name`] of the document.
    pub source: &'a str,
    /// What the digest has to be: of the module, or for an image of its index or manifest.
    pub sha256: Option<Digest>,
    /// For what a name led to before.
    pub policy: PullPolicy,
    /// A docker config for this module.
    pub secret: Option<&'a PullSecret>,
    /// Hosts that the Proxy names.
    pub registries: &'a Arc<[Registry]>,
    /// Each of them has to vouch for it.
    pub trust: &'a [Trust],
}

/// Why there is no module.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// It cannot be read.
    #[error("cannot read {path}: {problem}")]
    Unreadable {
        /// Where it was looked for.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// It is larger than a module may be.
    #[error("{path} has {size} bytes, more than {limit}")]
    TooLarge {
        /// Where it was found.
        path: String,
        /// Its bytes.
        size: u64,
        /// How many it may have.
        limit: u64,
    },
    /// It is not the one that the document pins.
    #[error("{path} has the digest {found}")]
    WrongDigest {
        /// Where it was found.
        path: String,
        /// Its digest.
        found: Digest,
    },
    /// The process that compiled it died or took too long over it.
    #[error("the compiling process gave up: {problem}")]
    Compiler {
        /// How it ended.
        problem: String,
    },
    /// It is being fetched.
    #[error("{url} is on its way")]
    Pending {
        /// From where.
        url: String,
    },
    /// It cannot be fetched.
    #[error("{title}: {cause}")]
    Fetch {
        /// What sort of problem.
        code: Code,
        /// What does not work.
        title: String,
        /// Why.
        cause: String,
        /// What to do.
        hint: &'static str,
    },
    /// It cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Where modules and files come from.
pub trait Modules {
    /// Finds, checks and compiles a module.
    ///
    /// # Errors
    /// Why there is none.
    fn module(&self, request: &ModuleRequest<'_>) -> Result<Arc<Module>, ModuleError>;

    /// The bytes of a certificate or key that the document `source` names as `path`; see [`beside`].
    ///
    /// # Errors
    /// What the system said.
    fn file(&self, source: &str, path: &str) -> Result<Bytes, String>;

    /// What the address of a module came to: with a digest, where it named none.
    fn pinned(&self, _request: &ModuleRequest<'_>) -> Option<String> {
        None
    }

    /// The pull secret that the document `source` names: beside a file, as Kubernetes mounts it; for a ConfigMap the
    /// Secret beside that.
    ///
    /// # Errors
    /// Why there is none.
    fn pull_secret(&self, source: &str, name: &str) -> Result<PullSecret, String> {
        match own_namespace(source) {
            Some(namespace) => {
                Ok(PullSecret::Held { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            None => self.file(source, &format!("{name}/.dockerconfigjson")).map(PullSecret::Config),
        }
    }

    /// What the Secret `name` of the cluster holds for TLS, as it was when the document `source` first asked.
    ///
    /// # Errors
    /// Why there is nothing, or nothing yet (P0427).
    fn secret(
        &self,
        _source: &str,
        namespace: &str,
        name: &str,
    ) -> Result<TlsSecret, Box<Problem>> {
        let title = format!("cannot read the Secret {namespace}/{name}");
        let problem = Problem::new(Code::P0424, title).because("there is no cluster");
        Err(Box::new(problem.hint("`portcullis run --kubernetes` reads Secrets")))
    }

    /// A variable of this process's environment, for `valueFrom: HOST`.
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// What the process needs besides the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSettings {
    /// `namespace/name` of the Proxy.
    pub proxy: String,
    /// Worker threads, at least 1. Needs a restart.
    pub workers: usize,
    /// `None`: no admin server. Needs a restart.
    pub admin: Option<SocketAddr>,
    /// `None`: no health server. Needs a restart.
    pub health: Option<SocketAddr>,
    /// After SIGTERM: not ready, still accepting.
    pub drain_delay: Duration,
    /// Then: not accepting, until every exchange is over or this time has passed.
    pub drain_timeout: Duration,
}

/// An object that a source defines, whether it is right or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Index of its source.
    pub source: usize,
    /// `HTTPRoute`, …
    pub kind: String,
    /// `default` where the document names none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Something that is right and yet worth knowing: an object that does not select this proxy, a parent that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Index of its source.
    pub source: usize,
    /// `Kind namespace/name`
    pub object: String,
    /// Where.
    pub place: Option<Place>,
    /// One sentence without a full stop.
    pub text: String,
}

/// What became of the documents.
#[derive(Debug, Default)]
pub struct Planned {
    /// Made of all objects that are right; `None` without a usable Proxy. Where `problems` holds reference problems, the
    /// rules concerned answer 500.
    pub snapshot: Option<Snapshot>,
    /// `None` exactly when there is no snapshot.
    pub process: Option<ProcessSettings>,
    /// All of them, by source and place.
    pub problems: Vec<Problem>,
    /// By source and place.
    pub notes: Vec<Note>,
    /// Every object of every source, in order.
    pub objects: Vec<ObjectName>,
    /// Modules and certificates to watch, whether they are there or not; sorted, each once.
    pub used_files: Vec<PathBuf>,
}

/// How the names of ConfigMaps' keys begin: `configmap://NAMESPACE/NAME/KEY`.
pub const CONFIG_MAP: &str = "configmap://";

/// Where the module of `url` is, as a document of `source` names it; `None`: nowhere, since `configmap:///NAME/KEY` has a
/// meaning only in a ConfigMap, or since it is no such URL.
pub fn module_path(source: &str, url: &str) -> Option<PathBuf> {
    if let Some(path) = url.strip_prefix("file://") {
        return Some(beside(source, path));
    }
    let path = url.strip_prefix(CONFIG_MAP)?;
    if !path.starts_with('/') {
        return Some(PathBuf::from(url));
    }
    Some(PathBuf::from(format!("{CONFIG_MAP}{}{path}", own_namespace(source)?)))
}

/// The namespace of the ConfigMap in which `source` lies, whatever its documents say.
fn own_namespace(source: &str) -> Option<&str> {
    source.strip_prefix(CONFIG_MAP)?.split('/').next()
}

/// The path of what a document of `source` calls `path`: relative to the document's folder, which for a ConfigMap is that
/// ConfigMap. The name of a ConfigMap's key stays what it is.
pub fn beside(source: &str, path: &str) -> PathBuf {
    if path.starts_with(CONFIG_MAP) {
        return PathBuf::from(path);
    }
    Path::new(source).parent().unwrap_or(Path::new("")).join(path)
}

/// Plans `sources` for the Proxy called `proxy` (`name` or `namespace/name`; `None`: the only one).
pub fn plan(sources: &[Source], proxy: Option<&str>, modules: &dyn Modules) -> Planned {
    let mut desk = Desk::new(modules);
    let mut documents = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        let contents = spec::read(index, &source.name, &source.text, &source.home);
        documents.extend(contents.documents);
        desk.problems.extend(contents.problems);
        if contents.incomplete {
            desk.unread.push(source.name.to_string());
        }
    }
    let catalogue = Catalogue::new(documents, &mut desk);
    let objects = catalogue.objects();

    let ours = proxy::choose(&catalogue, proxy, &mut desk);
    let process = ours.and_then(|document| proxy::process(document, &mut desk));
    let listeners = ours.map_or_else(Vec::new, |document| proxy::listeners(document, &mut desk));
    let registries = ours.map(|document| registry::compile(document, &mut desk));
    let registries = registries.filter(|_| ours.is_some_and(|proxy| !desk.has_error_of(proxy)));
    let host = filter::Host { proxy: ours, listeners: &listeners, registries };
    let backends = backend::compile(&catalogue, &mut desk);
    let filters = filter::compile(&catalogue, &host, &mut desk);
    let routes = route::compile(&catalogue, &host, &backends, &filters, &mut desk);
    let tcp_routes = tcp_route::compile(&catalogue, &host, &backends, &mut desk);

    let complete = process.is_some() && ours.is_some_and(|proxy| !desk.has_error_of(proxy));
    let settings = ours.filter(|_| complete).and_then(proxy::settings);
    let snapshot = settings.map(|(limits, access_log)| Snapshot {
        generation: 0,
        listeners: filter::attached(listeners, &filters),
        routes,
        tcp_routes,
        backends: backends.into_backends(),
        filters: filters.into_filters(),
        limits,
        access_log,
    });
    let process = process.filter(|_| snapshot.is_some());
    desk.finish(snapshot, process, objects)
}
