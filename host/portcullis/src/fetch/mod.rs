//! Brings what documents refer to: Wasm modules, from files and over the network, and the files beside a document
//! (certificates, keys), or Secrets that hold such.
//!
//! Where a module comes from is told by the scheme of its `url`, in [`Shelf::module`]: that is the door for another one.
//! What one version of one source object refers to lies on a [`Shelf`]: read once and then kept, so that the last good
//! version of an object stays good when its files change under it. Nothing here decides whether a document is accepted.

mod shelf;
mod config_map;
mod shipment;
mod keyring;
mod remote;
mod delivery;
mod order;
mod evidence;
mod layout;
mod unpack;
mod downloads;
pub mod oci;
pub mod http;
mod error;
mod workshop;
mod compiler;
mod publish;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use portcullis_vm::{Cache, Digest, Engine, LoadError, Module};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use compiler::{Compiler, NO_CACHE, NO_ROOM, UNFIT};
pub use config_map::{
    Blob, ConfigMaps, Form, Index, Piece, is_config_map, split as split_config_map,
};
pub use delivery::Brought;
pub use downloads::{DOWNLOADS_BYTES, Downloads, Known, Lease, Part};
pub use error::{FetchError, FetchErrorKind};
pub use evidence::Evidence;
pub use layout::{Shape, module_layer};
pub use order::{Delivery, Order, Reach};
pub use publish::{Publication, Published};
pub use shelf::Shelf;
pub use shipment::{ROOM, Shipment, Stowed};
pub use unpack::{Member, Parcel};

use crate::cluster::Secrets;
use crate::plan::ModuleError;
use keyring::{Followed, Keyring};
use remote::Remote;
use workshop::Workshop;

/// What a module may have; the same goes for certificates and keys.
pub const MODULE_BYTES: u64 = 64 << 20;

const DISPLAYED: usize = 6;
const CHUNK: usize = 64 << 10;
/// Below the folder of compiled modules.
const FETCHED: &str = "fetched";

/// Reads and compiles, and remembers both: a module that anybody still uses is compiled once, a file that was not
/// written to is not hashed again.
pub struct Store {
    workshop: Workshop,
    remote: Remote,
    modules: Mutex<BTreeMap<Digest, Weak<Module>>>,
    stamps: Mutex<BTreeMap<PathBuf, (Stamp, Version)>>,
    config_maps: Mutex<ConfigMaps>,
    /// Unset where there is no cluster.
    secrets: OnceLock<Secrets>,
    keyring: Keyring,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Store {
    /// Compiles in this process. `cache`: where compiled modules are kept between runs.
    pub fn new(engine: Engine, cache: Option<Cache>) -> Store {
        let folder = cache.as_ref().map(|cache| cache.folder().join(FETCHED));
        let remote = Remote::new(folder, Reach::Network);
        let workshop = Workshop::new(engine, cache);
        Store {
            workshop,
            remote,
            modules: Mutex::default(),
            stamps: Mutex::default(),
            config_maps: Mutex::default(),
            secrets: OnceLock::new(),
            keyring: Keyring::default(),
        }
    }

    /// Uses the network, or only what is on this machine.
    pub fn within(self, reach: Reach) -> Store {
        Store { remote: self.remote.within(reach), ..self }
    }

    /// Has a process of its own compile.
    pub fn with(self, compiler: Compiler) -> Store {
        Store { workshop: self.workshop.with(compiler), ..self }
    }

    /// Has Secrets that documents in ConfigMaps name looked up there from now on. Only the first way counts.
    pub fn unlock(&self, secrets: Secrets) {
        self.secrets.get_or_init(|| secrets);
    }

    /// Calls `bell`, from another thread, whenever something arrives or cannot be had.
    pub fn ring(&self, bell: impl Fn() + Send + 'static) {
        self.remote.ring(Box::new(bell));
    }

    /// Waits for what is being fetched now; each has its own time.
    pub fn settle(&self) {
        self.keyring.settle();
        self.remote.settle();
    }

    /// Takes names as they were last looked up where nobody answers who could tell what they mean now. False: there is
    /// nothing of that kind.
    pub fn make_do(&self) -> bool {
        self.remote.make_do()
    }

    /// Tries at once what could not be fetched before.
    pub fn hurry(&self) {
        self.keyring.hurry();
        self.remote.hurry();
    }

    /// Where modules came from so far, what is fetched, and which Secrets are followed.
    pub fn status(&self) -> Value {
        let mut status = self.workshop.status();
        status["remote"] = self.remote.status();
        status["secrets"] = self.keyring.status();
        status
    }

    /// Our lines of `/metrics`.
    pub fn metrics(&self) -> String {
        let [good, bad] = self.remote.tally();
        let name = "portcullis_module_fetches_total";
        let help = "Attempts to fetch a module from a registry or server.";
        format!(
            "# HELP {name} {help}\n# TYPE {name} counter\n\
             {name}{{result=\"success\"}} {good}\n{name}{{result=\"failure\"}} {bad}\n"
        )
    }

    /// Hands down what `configmap://` leads to from now on.
    pub fn hand_down(&self, config_maps: ConfigMaps) {
        *lock(&self.config_maps) = config_maps;
    }

    fn follow(&self, namespace: &str, name: &str) -> Arc<Followed> {
        self.keyring.follow((namespace, name), self.secrets.get(), &self.remote)
    }

    fn config_maps(&self) -> ConfigMaps {
        lock(&self.config_maps).clone()
    }

    /// What a file contains now; `None` when it cannot be read.
    fn version(&self, path: &Path) -> Option<Version> {
        if is_config_map(path) {
            return Some(self.config_maps().version(path));
        }
        let stamp = stamp(path)?;
        let known = lock(&self.stamps).get(path).copied();
        if let Some((then, version)) = known
            && then == stamp
        {
            return Some(version);
        }
        let version = Version::of(&stored_bytes(path, MODULE_BYTES).ok()?);
        lock(&self.stamps).insert(path.to_owned(), (stamp, version));
        Some(version)
    }

    fn compile(&self, bytes: &[u8]) -> Result<Arc<Module>, ModuleError> {
        let digest = Digest::of(bytes);
        let known = lock(&self.modules).get(&digest).and_then(Weak::upgrade);
        if let Some(module) = known {
            return Ok(module);
        }
        let module = Arc::new(self.workshop.module(bytes)?);
        let mut modules = lock(&self.modules);
        modules.retain(|_, module| module.strong_count() > 0);
        modules.insert(digest, Arc::downgrade(&module));
        Ok(module)
    }
}

/// Of a whole file, with little memory.
fn digest_of(file: &mut File) -> io::Result<Digest> {
    file.rewind()?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(Digest(hash.finalize().into()));
        }
        hash.update(chunk.get(..read).unwrap_or_default());
    }
}

/// A file's bytes, unless there are more than `limit` of them.
///
/// # Errors
/// The file cannot be read or is too large.
pub fn stored_bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder"));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let problem = format!("larger than {} MiB", limit >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// The folder of compiled modules: `wanted`, or the user's own cache folder.
///
/// # Errors
/// There is no home to put it in, or the folder cannot be made or trusted. Without a cache every start compiles.
pub fn open_cache(wanted: Option<&Path>) -> Result<Cache, LoadError> {
    let folder = match wanted {
        Some(folder) => folder.to_owned(),
        None => default_cache().ok_or_else(|| LoadError::Cache {
            path: "~/.cache/portcullis".to_owned(),
            problem: "neither XDG_CACHE_HOME nor HOME is set".to_owned(),
        })?,
    };
    Cache::open(&folder)
}

/// Carries `work` out on this thread, for whoever has nothing else to do.
///
/// # Errors
/// Those of `work`, or there is no runtime to be had.
pub fn wait_for<T>(work: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|problem| {
        FetchError::new(FetchErrorKind::Folder, "nothing can be fetched", problem.to_string())
    })?;
    let done = runtime.block_on(work);
    // A name that is still being looked up holds nobody up.
    runtime.shutdown_background();
    done
}

/// The folder of fetched modules, below that of compiled ones.
///
/// # Errors
/// There is none, or it cannot be trusted.
pub fn open_downloads(cache: Option<&Path>) -> Result<Downloads, FetchError> {
    let cache = open_cache(cache).map_err(|problem| {
        let title = "fetched modules cannot be kept";
        FetchError::new(FetchErrorKind::Folder, title, problem.to_string())
    })?;
    Downloads::open(&cache.folder().join(FETCHED), DOWNLOADS_BYTES)
}

fn default_cache() -> Option<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute())
    };
    let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(caches.join("portcullis"))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        bytes: meta.len(),
        written: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SHA-256 of content; displayed as its first 12 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u8; 32]);

impl Version {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Version {
        Version(Sha256::digest(bytes).into())
    }

    /// Of `self` and what it refers to; of `self` alone when that is nothing.
    pub fn with(self, others: impl IntoIterator<Item = Option<Version>>) -> Version {
        others.into_iter().fold(self, |version, other| {
            let mut hash = Sha256::new();
            hash.update(version.0);
            hash.update(other.map_or([0; 32], |other| other.0));
            Version(hash.finalize().into())
        })
    }
}

impl From<Digest> for Version {
    fn from(digest: Digest) -> Version {
        Version(digest.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(DISPLAYED).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
