//! What was fetched, kept on disk for the next start and for the other processes of this user.
//!
//! A folder of our own (0700). Modules are named by their digest, verified whenever they are read, and written under
//! another name first. Whoever uses one holds a [`Lease`], which is a lock on the file: nobody, in whatever process,
//! evicts it meanwhile. Names (tags, addresses) lead to digests; they are believed as long as nobody asks for a newer
//! answer.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use portcullis_vm::{Cache, Digest};
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempDir};

use super::error::{FetchError, FetchErrorKind};
use super::evidence::Evidence;
use super::oci::sha256;
use super::{MODULE_BYTES, digest_of};

/// What the folder may hold of modules, unless more is in use.
pub const DOWNLOADS_BYTES: u64 = 1 << 30;
/// What it may hold of blobs that did not arrive whole, beside those on their way: they take no room from modules.
const PARTS_BYTES: u64 = 4 * MODULE_BYTES;

const MODULES: &str = "modules";
const NAMES: &str = "names";
const PARTS: &str = "parts";
const SIGNATURES: &str = "signatures";
const MOST_NAMES: usize = 4096;
/// How often somebody who waits for another process looks again.
const LOOK: Duration = Duration::from_millis(20);

/// The folder.
#[derive(Clone, Debug)]
pub struct Downloads {
    folder: PathBuf,
    limit: u64,
    /// Holds the folder where there is none to keep.
    _passing: Option<Arc<TempDir>>,
}

/// Keeps a module from being evicted.
#[derive(Clone, Debug)]
pub struct Lease(#[expect(dead_code, reason = "the open file is the lock")] Arc<File>);

/// What a name led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of the image's index or manifest, or of the module where it came from no registry.
    pub digest: Digest,
    /// The module.
    pub module: Digest,
}

#[derive(Deserialize, Serialize)]
struct Written {
    name: String,
    digest: String,
    module: String,
}

/// A blob that is being fetched, by this process alone.
pub struct Part {
    /// What has arrived, perhaps in an earlier attempt.
    pub file: File,
    path: PathBuf,
}

impl Part {
    /// It is of no use any more.
    pub fn discard(self) {
        // One that stays is evicted some day.
        let _ = fs::remove_file(&self.path);
    }
}

impl Downloads {
    /// Opens the folder, or makes it. It holds at most `limit` bytes of modules that nobody uses.
    ///
    /// # Errors
    /// It cannot be made, or others may enter it.
    pub fn open(folder: &Path, limit: u64) -> Result<Downloads, FetchError> {
        for part in [MODULES, NAMES, PARTS, SIGNATURES] {
            // The same rules as for compiled modules.
            Cache::open(&folder.join(part)).map_err(|problem| {
                let title = format!("{} cannot be used", folder.display());
                FetchError::new(FetchErrorKind::Folder, title, problem.to_string())
            })?;
        }
        Ok(Downloads { folder: folder.to_owned(), limit, _passing: None })
    }

    /// A folder that goes with its last user.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn passing() -> Result<Downloads, FetchError> {
        let folder = tempfile::Builder::new().prefix("portcullis-").tempdir();
        let folder = folder.map_err(|problem| unusable("a temporary folder", &problem))?;
        let opened = Downloads::open(&folder.path().join("fetched"), DOWNLOADS_BYTES)?;
        Ok(Downloads { _passing: Some(Arc::new(folder)), ..opened })
    }

    /// The module with this digest, if it is here and sound.
    pub fn module(&self, digest: Digest) -> Option<(Bytes, Lease)> {
        let (path, mut file) = self.held(digest)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let lease = sound(&path, file, Digest::of(&bytes), digest)?;
        Some((bytes.into(), lease))
    }

    /// A lease on the module with this digest, if it is here and sound.
    pub fn lease(&self, digest: Digest) -> Option<Lease> {
        let (path, mut file) = self.held(digest)?;
        let found = digest_of(&mut file).ok()?;
        sound(&path, file, found, digest)
    }

    /// The file, open and locked against eviction.
    fn held(&self, digest: Digest) -> Option<(PathBuf, File)> {
        let path = self.place(MODULES, &digest.to_string());
        let file = open_existing(&path)?;
        flock(&file, FlockOperation::LockShared).ok()?;
        (file.metadata().ok()?.nlink() > 0).then_some((path, file))
    }

    /// What `name` led to, if the module is still here.
    pub fn known(&self, name: &str) -> Option<Known> {
        let (written, known) = read_name(&self.name_file(name))?;
        let here = self.place(MODULES, &known.module.to_string()).exists();
        (here && written == name).then_some(known)
    }

    /// Remembers what `name` led to.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn remember(&self, name: &str, known: &Known) -> Result<(), FetchError> {
        let written = Written {
            name: name.to_owned(),
            digest: format!("sha256:{}", known.digest),
            module: format!("sha256:{}", known.module),
        };
        self.write(NAMES, &self.name_file(name), &written)
    }

    /// The signatures of what has this digest, if they were kept.
    pub fn evidence(&self, digest: Digest) -> Option<Evidence> {
        Evidence::read(&fs::read(self.place(SIGNATURES, &digest.to_string())).ok()?)
    }

    /// Keeps signatures of what has this digest.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn keep_evidence(&self, digest: Digest, evidence: &Evidence) -> Result<(), FetchError> {
        self.write(SIGNATURES, &self.place(SIGNATURES, &digest.to_string()), &evidence.written())
    }

    /// Writes JSON, under another name first.
    fn write(&self, part: &str, place: &Path, value: &impl Serialize) -> Result<(), FetchError> {
        let failed = |problem: io::Error| unusable(part, &problem);
        let draft = NamedTempFile::new_in(self.folder.join(part)).map_err(failed)?;
        serde_json::to_writer(draft.as_file(), value).map_err(|problem| failed(problem.into()))?;
        draft.persist(place).map_err(|problem| failed(problem.error))?;
        Ok(())
    }

    /// A file for what is not known yet.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn draft(&self) -> Result<NamedTempFile, FetchError> {
        let failed = |problem: &io::Error| unusable(PARTS, problem);
        let draft =
            NamedTempFile::new_in(self.folder.join(PARTS)).map_err(|error| failed(&error))?;
        flock(draft.as_file(), FlockOperation::LockExclusive)
            .map_err(|problem| failed(&problem.into()))?;
        Ok(draft)
    }

    /// What has arrived of the blob that is known by this digest; waits for whoever fetches it now, and makes room.
    ///
    /// Cancel safe: nothing is held until it returns.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub async fn part(&self, digest: Digest) -> Result<Part, FetchError> {
        let path = self.place(PARTS, &digest.to_string());
        let failed = |problem: &io::Error| unusable(PARTS, problem);
        loop {
            let flags = OFlags::NOFOLLOW.bits().cast_signed();
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let opened = options.custom_flags(flags).open(&path);
            let file = opened.map_err(|problem| failed(&problem))?;
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
            match locked {
                // Whoever had it may have finished and removed it.
                Ok(()) if file.metadata().is_ok_and(|meta| meta.nlink() > 0) => {
                    self.evict();
                    return Ok(Part { file, path });
                }
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(LOOK).await,
                Err(problem) => return Err(failed(&problem.into())),
            }
        }
    }

    /// Takes a module in, and makes room for it.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn keep(&self, draft: NamedTempFile, digest: Digest) -> Result<Lease, FetchError> {
        if let Some(lease) = self.lease(digest) {
            // A lease on a file that is replaced would be worth nothing.
            return Ok(lease);
        }
        let failed = |problem: io::Error| unusable(MODULES, &problem);
        flock(draft.as_file(), FlockOperation::LockShared).map_err(|error| failed(error.into()))?;
        let place = self.place(MODULES, &digest.to_string());
        let file = match draft.persist_noclobber(&place) {
            Ok(file) => file,
            // Somebody was quicker, or what lies there is of no use.
            Err(taken) => match self.lease(digest) {
                Some(lease) => return Ok(lease),
                None => taken.file.persist(&place).map_err(|problem| failed(problem.error))?,
            },
        };
        self.evict();
        Ok(Lease(Arc::new(file)))
    }

    /// Removes what was not used for longest, as long as there is too much, and nothing that somebody holds.
    fn evict(&self) {
        self.shrink(MODULES, self.limit);
        self.shrink(PARTS, PARTS_BYTES);
        self.forget();
    }

    /// Removes the oldest names and signatures, where there are too many, but for those of modules that somebody holds:
    /// they are needed when that starts anew.
    fn forget(&self) {
        let mut held = BTreeSet::new();
        for path in self.surplus(NAMES) {
            match read_name(&path) {
                Some((_, known)) if self.is_held(known.module) => {
                    held.insert(known.digest.to_string());
                }
                // Another process may have been quicker.
                _ => drop(fs::remove_file(path)),
            }
        }
        for path in self.surplus(SIGNATURES) {
            let signed = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !held.contains(signed) {
                drop(fs::remove_file(path));
            }
        }
    }

    fn surplus(&self, part: &str) -> impl Iterator<Item = PathBuf> + use<> {
        let mut files = listing(&self.folder.join(part));
        files.sort();
        let surplus = files.len().saturating_sub(MOST_NAMES);
        files.into_iter().take(surplus).map(|(_, _, path)| path)
    }

    fn is_held(&self, module: Digest) -> bool {
        let file = open_existing(&self.place(MODULES, &module.to_string()));
        file.is_some_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
    }

    fn shrink(&self, part: &str, limit: u64) {
        let mut files = listing(&self.folder.join(part));
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if total <= limit {
                return;
            }
            let Some(file) = open_existing(&path) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && fs::remove_file(&path).is_ok()
            {
                total = total.saturating_sub(size);
            }
        }
    }

    fn place(&self, part: &str, name: &str) -> PathBuf {
        self.folder.join(part).join(name)
    }

    fn name_file(&self, name: &str) -> PathBuf {
        self.place(NAMES, &Digest::of(name.as_bytes()).to_string())
    }
}

/// A name and what it led to.
fn read_name(path: &Path) -> Option<(String, Known)> {
    let Written { name, digest, module } = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some((name, Known { digest: sha256(&digest)?, module: sha256(&module)? }))
}

/// A lease, if the file is what its name says.
fn sound(path: &Path, file: File, found: Digest, digest: Digest) -> Option<Lease> {
    if found != digest {
        tracing::warn!(module = %digest, "a fetched module is damaged on disk");
        // It is fetched again; one that cannot be removed is refused again.
        let _ = fs::remove_file(path);
        return None;
    }
    // For eviction; a wrong order costs a download.
    let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
    Some(Lease(Arc::new(file)))
}

fn open_existing(path: &Path) -> Option<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path).ok()
}

/// By the time of last use.
fn listing(folder: &Path) -> Vec<(SystemTime, u64, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let read = |entry: fs::DirEntry| {
        let meta = entry.metadata().ok()?;
        Some((meta.modified().ok()?, meta.len(), entry.path()))
    };
    entries.filter_map(read).collect()
}

fn unusable(what: &str, problem: &io::Error) -> FetchError {
    let title = format!("fetched modules cannot be kept ({what})");
    FetchError::new(FetchErrorKind::Folder, title, problem.to_string())
}
