//! What one version of one source object refers to: files, keys of ConfigMaps, Secrets, and modules from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use portcullis_vm::{Digest, Module};

use super::evidence::{self, distrusted};
use super::keyring::{Followed, Known};
use super::order::{Delivery, Order, shown_url};
use super::remote::{Errand, State};
use super::{
    Blob, FetchError, FetchErrorKind, Form, MODULE_BYTES, Store, Version, is_config_map, lock,
    stored_bytes,
};
use crate::cluster::Value;
use crate::diagnose::{Code, Problem};
use crate::plan::{ModuleError, ModuleRequest, TlsSecret, module_path};
use crate::signature::{Distrust, Trust};

/// How what is in a Secret is called where it is kept: `secret://NAMESPACE/NAME/KEY`.
const SECRET: &str = "secret://";

/// Files as they were when they were first asked for. A shelf never reads a file twice, and never fetches twice what it
/// has.
pub struct Shelf {
    store: Arc<Store>,
    /// Of the documents.
    text: Version,
    items: Mutex<BTreeMap<PathBuf, Item>>,
    arrivals: Mutex<BTreeMap<Wanted, Arrival>>,
    /// By namespace and name.
    secrets: Mutex<BTreeMap<(String, String), Taken>>,
    /// Modules in files for which somebody of these keys has vouched.
    vouched: Mutex<BTreeSet<(PathBuf, Version)>>,
}

fn wanted(request: &ModuleRequest<'_>) -> Wanted {
    (request.url.to_owned(), request.sha256, evidence::version(request.trust))
}

/// Address, pin, and whose signature is asked for.
type Wanted = (String, Option<Digest>, Option<Version>);

/// A module from elsewhere, here or not.
struct Arrival {
    errand: Arc<Errand>,
    /// What was known of the errand when it was last asked.
    news: u64,
    made: Option<(Delivery, Result<Arc<Module>, ModuleError>)>,
}

/// A Secret as it was when it was first asked for: certificate and key are of one version of it.
struct Taken {
    followed: Arc<Followed>,
    /// `None`: nothing was known yet.
    known: Option<Known>,
}

#[derive(Clone)]
struct Item {
    /// `None`: there was nothing to read.
    version: Option<Version>,
    content: Content,
    /// As it is stored, where that is a ConfigMap.
    blob: Option<Blob>,
}

#[derive(Clone)]
enum Content {
    Bytes(Bytes),
    /// In the blob, and opened whenever it is wanted: a little may be much then. The digest of what comes out, once that is
    /// known.
    Stored(Option<Digest>),
    /// Compiled; what it was compiled from is not kept.
    Module(Arc<Module>),
    /// Of no use as a module, which is not tried twice. The bytes, unless they are in the blob.
    Unfit(Option<Bytes>, ModuleError),
    Unreadable(io::ErrorKind, String),
}

impl Shelf {
    /// An empty one, for documents whose text has this version.
    pub fn new(store: Arc<Store>, text: Version) -> Shelf {
        let (items, arrivals, secrets, vouched) = Default::default();
        Shelf { store, text, items, arrivals, secrets, vouched }
    }

    /// The module that a document asks for, compiled. One from elsewhere may be on its way.
    ///
    /// # Errors
    /// Why there is none, or none yet.
    pub fn module(&self, request: &ModuleRequest<'_>) -> Result<Arc<Module>, ModuleError> {
        let Some(path) = module_path(request.source, request.url) else {
            return self.module_from(request);
        };
        self.vouch(&path, request.trust)?;
        self.module_in(&path, request.sha256)
    }

    /// What the address of a module came to, once that is here: the address with its digest.
    pub fn pinned(&self, request: &ModuleRequest<'_>) -> Option<String> {
        let arrivals = lock(&self.arrivals);
        let arrival = arrivals.get(&wanted(request))?;
        arrival.made.as_ref().map(|(delivery, _)| delivery.pinned.clone())
    }

    fn module_from(&self, request: &ModuleRequest<'_>) -> Result<Arc<Module>, ModuleError> {
        let wanted = wanted(request);
        if let Some((_, made)) = lock(&self.arrivals).get(&wanted).and_then(|one| one.made.clone())
        {
            return made;
        }
        let errand = self.store.remote.errand(Order {
            url: request.url.to_owned(),
            sha256: request.sha256,
            policy: request.policy,
            registries: request.registries.clone(),
            secret: request.secret.cloned(),
            secrets: self.store.secrets.get().cloned(),
            trust: request.trust.to_vec(),
            occasion: self.text,
        });
        let (state, news) = errand.state();
        let (made, result) = match state {
            State::Pending => (None, Err(ModuleError::Pending { url: shown_url(request.url) })),
            State::Failed(error) => (None, Err(error.into())),
            State::Here(delivery) => {
                let made = self.compiled(&delivery);
                (Some((delivery, made.clone())), made)
            }
        };
        lock(&self.arrivals).insert(wanted, Arrival { errand, news, made });
        result
    }

    fn compiled(&self, delivery: &Delivery) -> Result<Arc<Module>, ModuleError> {
        let bytes = self.store.remote.bytes(delivery).ok_or_else(|| {
            let title = format!("{} is damaged on disk", delivery.pinned);
            let cause = "it was sound a moment ago";
            ModuleError::from(FetchError::new(FetchErrorKind::Folder, title, cause))
        })?;
        self.store.compile(&bytes)
    }

    /// What a Secret of the cluster holds for TLS.
    ///
    /// # Errors
    /// Why there is nothing, or nothing yet.
    pub fn secret(&self, namespace: &str, name: &str) -> Result<TlsSecret, Box<Problem>> {
        let take = || {
            let followed = self.store.follow(namespace, name);
            let known = followed.known();
            Taken { followed, known }
        };
        let mut secrets = lock(&self.secrets);
        let taken = secrets
            .entry((namespace.to_owned(), name.to_owned()))
            .or_insert_with(take)
            .known
            .clone();
        match taken {
            Some(known) => known.found.map_err(|error| Box::new(error.into())),
            None => {
                let title = format!("the Secret {namespace}/{name} is being read");
                let problem = Problem::new(Code::P0427, title);
                Err(Box::new(problem.hint("it goes live by itself when it is here")))
            }
        }
    }

    /// One on which lies what a version of an object referred to before.
    pub fn with(self, blobs: impl IntoIterator<Item = (PathBuf, Blob)>) -> Shelf {
        let mut secrets: BTreeMap<(String, String), Vec<(String, Bytes)>> = BTreeMap::new();
        for (path, blob) in blobs {
            match (secret_key(&path), blob.pieces.as_slice()) {
                (Some((secret, key)), [piece]) => {
                    secrets.entry(secret).or_default().push((key, piece.bytes.clone()));
                }
                _ => drop(lock(&self.items).insert(path, Item::from(blob))),
            }
        }
        for ((namespace, name), values) in secrets {
            let followed = self.store.follow(&namespace, &name);
            followed.remember(TlsSecret::new(values));
            let known = followed.known();
            lock(&self.secrets).insert((namespace, name), Taken { followed, known });
        }
        self
    }

    /// What on it comes from the cluster, as it is stored there.
    pub fn blobs(&self) -> Vec<(PathBuf, Blob)> {
        let items = lock(&self.items);
        let stored = |(path, item): (&PathBuf, &Item)| Some((path.clone(), item.blob.clone()?));
        let mut blobs: Vec<_> = items.iter().filter_map(stored).collect();
        for ((namespace, name), taken) in lock(&self.secrets).iter() {
            let found = taken.known.as_ref().and_then(|known| known.found.as_ref().ok());
            blobs.extend(found.into_iter().flat_map(TlsSecret::values).map(|(key, value)| {
                let path = PathBuf::from(format!("{SECRET}{namespace}/{name}/{key}"));
                let pieces = vec![Value::new(value.clone())];
                (path, Blob { pieces, form: Form::Plain, digest: None })
            }));
        }
        blobs
    }

    /// The bytes of a certificate or key.
    ///
    /// # Errors
    /// It could not be read when it was first asked for: what the system said.
    pub fn bytes(&self, path: &Path) -> Result<Bytes, String> {
        match self.item(path).content {
            Content::Module(_) => Err("it is used as a module".to_owned()),
            _ => self.opened(path).map_err(|problem| problem.to_string()),
        }
    }

    /// What a path led to when it was first asked for. What cannot be opened is not tried twice.
    fn opened(&self, path: &Path) -> io::Result<Bytes> {
        let Item { content, blob, .. } = self.item(path);
        match (content, blob) {
            (Content::Bytes(bytes) | Content::Unfit(Some(bytes), _), _) => Ok(bytes),
            (Content::Unreadable(kind, problem), _) => Err(io::Error::new(kind, problem)),
            (_, Some(blob)) => blob.open().inspect_err(|problem| {
                self.put(path, Content::Unreadable(problem.kind(), problem.to_string()));
            }),
            // What it was compiled from is in the file, as long as nobody writes there.
            (_, None) => stored_bytes(path, MODULE_BYTES).map(Bytes::from),
        }
    }

    fn put(&self, path: &Path, content: Content) {
        if let Some(item) = lock(&self.items).get_mut(path) {
            item.content = content;
        }
    }

    /// Whether a module in a file is signed as it has to be, by the signature in the file beside it.
    fn vouch(&self, path: &Path, trust: &[Trust]) -> Result<(), ModuleError> {
        let Some(version) = evidence::version(trust) else { return Ok(()) };
        let known = (path.to_owned(), version);
        if lock(&self.vouched).contains(&known) {
            return Ok(());
        }
        let named = path.display().to_string();
        let mut beside = path.as_os_str().to_owned();
        beside.push(".sig");
        let content = self.item(path).content;
        if matches!(content, Content::Unreadable(..)) {
            return Ok(());
        }
        let signature = self.bytes(Path::new(&beside));
        let signature = signature.map_err(|_| distrusted(&named, &Distrust::Unsigned))?;
        let bytes = match (content, self.opened(path)) {
            // Nobody asked when it was read.
            (Content::Module(module), bytes) => bytes
                .ok()
                .filter(|bytes| Digest::of(bytes) == module.digest())
                .ok_or_else(|| ModuleError::Unreadable {
                    path: named.clone(),
                    problem: "it has changed a moment ago".to_owned(),
                })?,
            (_, Ok(bytes)) => bytes,
            (_, Err(_)) => return Ok(()),
        };
        let text = String::from_utf8_lossy(&signature);
        let checked = trust.iter().try_for_each(|trust| trust.check_bytes(&bytes, &text));
        checked.map_err(|reason| distrusted(&named, &reason))?;
        lock(&self.vouched).insert(known);
        Ok(())
    }

    /// The module in a file; `wanted` is the digest it must have.
    fn module_in(&self, path: &Path, wanted: Option<Digest>) -> Result<Arc<Module>, ModuleError> {
        let named = || path.display().to_string();
        let pinned = |found: Digest| match wanted {
            Some(wanted) if wanted != found => {
                Err(ModuleError::WrongDigest { path: named(), found })
            }
            _ => Ok(()),
        };
        let Item { content, blob, .. } = self.item(path);
        match content {
            Content::Module(module) => return pinned(module.digest()).map(|()| module),
            Content::Unfit(_, error) => return Err(error),
            Content::Stored(Some(found)) => pinned(found)?,
            _ => {}
        }
        let bytes = self.opened(path).map_err(|problem| match problem.kind() {
            io::ErrorKind::FileTooLarge => {
                let size = path.metadata().map_or(MODULE_BYTES + 1, |meta| meta.len());
                ModuleError::TooLarge { path: named(), size, limit: MODULE_BYTES }
            }
            _ => ModuleError::Unreadable { path: named(), problem: problem.to_string() },
        })?;
        let found = Digest::of(&bytes);
        if blob.is_some() {
            self.put(path, Content::Stored(Some(found)));
        }
        pinned(found)?;
        let made = self.store.compile(&bytes);
        self.put(
            path,
            match &made {
                Ok(module) => Content::Module(module.clone()),
                Err(error) => Content::Unfit(blob.is_none().then_some(bytes), error.clone()),
            },
        );
        made
    }

    /// The files on the shelf, with their content's version.
    pub fn files(&self) -> BTreeMap<PathBuf, Option<Version>> {
        lock(&self.items).iter().map(|(path, item)| (path.clone(), item.version)).collect()
    }

    /// What the shelf holds, as far as it was asked for.
    pub fn versions(&self) -> Vec<Option<Version>> {
        let arrivals = lock(&self.arrivals);
        let arrived = arrivals.values().map(|arrival| {
            let (delivery, _) = arrival.made.as_ref()?;
            Some(Version(delivery.digest.0))
        });
        let secrets = lock(&self.secrets);
        let taken = secrets.values().map(|taken| Some(taken.known.as_ref()?.version));
        self.files().into_values().chain(arrived).chain(taken).collect()
    }

    /// Whether every file still has the content it has here, and nothing new is known of what did not arrive.
    pub fn is_current(&self) -> bool {
        let known =
            |arrival: &Arrival| arrival.made.is_some() || arrival.errand.news() == arrival.news;
        let taken = |taken: &Taken| {
            taken.followed.version() == taken.known.as_ref().map(|known| known.version)
        };
        lock(&self.arrivals).values().all(known)
            && lock(&self.secrets).values().all(taken)
            && self.files().iter().all(|(path, version)| self.store.version(path) == *version)
    }

    /// Forgets that the compiler gave up on a module, or that it could not be read back: it may have been the machine's fault.
    pub fn try_again(&self) {
        lock(&self.arrivals).retain(|_, arrival| {
            let made = arrival.made.as_ref().map(|(_, made)| made);
            !matches!(made, Some(Err(ModuleError::Compiler { .. } | ModuleError::Fetch { .. })))
        });
        for item in lock(&self.items).values_mut() {
            if let Content::Unfit(bytes, ModuleError::Compiler { .. }) = &item.content {
                item.content = bytes.clone().map_or(Content::Stored(None), Content::Bytes);
            }
        }
    }

    fn item(&self, path: &Path) -> Item {
        let mut items = lock(&self.items);
        let read = || match is_config_map(path) {
            true => match self.store.config_maps().find(path) {
                Ok(blob) => Item::from(blob),
                Err(problem) => Item {
                    version: Some(Version::of(problem.as_bytes())),
                    ..Item::missing(io::ErrorKind::NotFound, problem)
                },
            },
            false => match stored_bytes(path, MODULE_BYTES) {
                Ok(bytes) => Item {
                    version: Some(Version::of(&bytes)),
                    content: Content::Bytes(bytes.into()),
                    blob: None,
                },
                Err(problem) => Item::missing(problem.kind(), problem.to_string()),
            },
        };
        items.entry(path.to_owned()).or_insert_with(read).clone()
    }
}

/// Namespace and name of a Secret, and the key in it.
fn secret_key(path: &Path) -> Option<((String, String), String)> {
    let (secret, key) = path.to_str()?.strip_prefix(SECRET)?.rsplit_once('/')?;
    let (namespace, name) = secret.split_once('/')?;
    Some(((namespace.to_owned(), name.to_owned()), key.to_owned()))
}

impl Item {
    fn missing(kind: io::ErrorKind, problem: String) -> Item {
        Item { version: None, content: Content::Unreadable(kind, problem), blob: None }
    }
}

impl From<Blob> for Item {
    fn from(blob: Blob) -> Item {
        Item { version: Some(blob.version()), content: Content::Stored(None), blob: Some(blob) }
    }
}
