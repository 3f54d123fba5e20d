//! Compiled modules on disk, so that a restart need not compile again, and that another process can compile.
//!
//! A folder of its own, readable and writable by this user only. A file is named by the module's digest and the engine's
//! fingerprint, carries a checksum over both and over its content, and is written under another name first. Whatever
//! does not check out is treated as absent and compiled again, never loaded. What was used last stays; the rest goes when there
//! is too much. Never touches the folder's other files.

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};
use sha2::{Digest as _, Sha256};

use crate::engine::Engine;
use crate::error::LoadError;
use crate::joint;

/// A folder of compiled modules (0700, owner checked, no symlinks).
#[derive(Clone, Debug)]
pub struct Cache {
    path: PathBuf,
    folder: Arc<OwnedFd>,
    limit: u64,
}

const USED_NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};
/// What the folder may hold of compiled modules.
const BYTES: u64 = 512 << 20;
const MAGIC: &[u8; 16] = b"portcullis cwasm";
const CHECKSUM: usize = 32;
static COUNTER: AtomicU64 = AtomicU64::new(0);

impl Cache {
    /// Opens the folder, or creates it with mode 0700.
    ///
    /// # Errors
    /// [`LoadError::Cache`]: it cannot be created, is a symlink or no folder, belongs to someone else, or others may
    /// enter it.
    pub fn open(folder: &Path) -> Result<Cache, LoadError> {
        let refuse =
            |problem: String| LoadError::Cache { path: folder.display().to_string(), problem };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|problem| refuse(problem.to_string()))?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let open = rustix::fs::open(folder, flags, Mode::empty())
            .map_err(|problem| refuse(format!("not a folder that can be opened: {problem}")))?;
        let stat = rustix::fs::fstat(&open).map_err(|problem| refuse(problem.to_string()))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(refuse(format!("belongs to user {}, not to this process", stat.st_uid)));
        }
        let mode = stat.st_mode & 0o777;
        if mode & 0o077 != 0 {
            return Err(refuse(format!("mode is {mode:04o}, expected 0700")));
        }
        Ok(Cache { path: folder.to_owned(), folder: Arc::new(open), limit: BYTES })
    }

    /// It holds at most this many bytes, or the module that was stored last (default: 512 MiB).
    pub fn within(self, limit: u64) -> Cache {
        Cache { limit, ..self }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// The compiled form of the module with this digest, if it is here, sound, and made by an engine like this one.
    pub(crate) fn load(&self, engine: &Engine, digest: [u8; 32]) -> Option<wasmtime::Module> {
        let key = Key { digest, fingerprint: engine.fingerprint() };
        let code = self.read(&key)?;
        match deserialize(engine, &code) {
            Ok(module) => Some(module),
            Err(problem) => {
                tracing::warn!(file = key.name(), %problem, "compiled module is not for this engine");
                None
            }
        }
    }

    /// Compiles and stores, and nothing else: for a process that only compiles.
    pub(crate) fn fill(
        &self,
        engine: &Engine,
        digest: [u8; 32],
        bytes: &[u8],
    ) -> Result<(), LoadError> {
        let key = Key { digest, fingerprint: engine.fingerprint() };
        let code = translate(engine, bytes)?;
        self.write(&key, &code).map_err(|problem| LoadError::Cache {
            path: self.path.display().to_string(),
            problem: problem.to_string(),
        })
    }

    fn read(&self, key: &Key) -> Option<Vec<u8>> {
        let name = key.name();
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.folder, &name, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == rustix::process::geteuid().as_raw()
            && stat.st_mode & 0o022 == 0;
        let mut bytes = Vec::new();
        if ours {
            let mut file = File::from(file);
            file.read_to_end(&mut bytes).ok()?;
            // For eviction; a wrong order costs a compilation.
            let _ = rustix::fs::futimens(&file, &USED_NOW);
        }
        let parts = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_at_checked(CHECKSUM));
        if parts.is_none_or(|(checksum, code)| *checksum != key.checksum(code)) {
            tracing::warn!(file = name, "compiled module is damaged or foreign");
            return None;
        }
        bytes.drain(..MAGIC.len() + CHECKSUM);
        Some(bytes)
    }

    fn write(&self, key: &Key, code: &[u8]) -> std::io::Result<()> {
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let draft = format!(".{}-{serial}.draft", std::process::id());
        let flags =
            OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file: File =
            rustix::fs::openat(&self.folder, &draft, flags, Mode::RUSR | Mode::WUSR)?.into();
        let written = [MAGIC.as_slice(), &key.checksum(code), code]
            .into_iter()
            .try_for_each(|part| file.write_all(part))
            .and_then(|()| {
                Ok(rustix::fs::renameat(&self.folder, &draft, &self.folder, key.name())?)
            });
        match &written {
            Ok(()) => self.evict(&key.name()),
            Err(_) => drop(rustix::fs::unlinkat(&self.folder, &draft, AtFlags::empty())),
        }
        written
    }

    /// Removes what was not used for longest, drafts of processes that were killed included, as long as there is too much.
    /// Whoever has loaded a module needs its file no more.
    fn evict(&self, stored: &str) {
        let mut files = self.files();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, name) in files {
            if total <= self.limit {
                return;
            }
            let is_removed = name.as_bytes() != stored.as_bytes()
                && rustix::fs::unlinkat(&self.folder, &name, AtFlags::empty()).is_ok();
            total = total.saturating_sub(if is_removed { size } else { 0 });
        }
    }

    /// Ours, with the time of last use, and bytes.
    fn files(&self) -> Vec<((i64, u64), u64, CString)> {
        let entries = Dir::read_from(&self.folder).into_iter().flatten().flatten();
        let read = |entry: rustix::fs::DirEntry| {
            let name = entry.file_name().to_str().ok()?;
            let is_draft = name.starts_with('.') && name.ends_with(".draft");
            if !is_draft && !name.ends_with(".cwasm") {
                return None;
            }
            let stat = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let size = u64::try_from(stat.st_size).ok()?;
            Some(((stat.st_mtime, stat.st_mtime_nsec), size, entry.file_name().to_owned()))
        };
        entries.filter_map(read).collect()
    }
}

struct Key {
    digest: [u8; 32],
    fingerprint: [u8; 32],
}

impl Key {
    fn name(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{}-{}.cwasm", hex(&self.digest), hex(&self.fingerprint[..16]))
    }

    fn checksum(&self, code: &[u8]) -> [u8; CHECKSUM] {
        Sha256::new()
            .chain_update(self.digest)
            .chain_update(self.fingerprint)
            .chain_update(code)
            .finalize()
            .into()
    }
}

/// Compiles in this process and, where there is a cache, stores. A failure to store is logged: the next start compiles
/// again.
pub(crate) fn compile(
    engine: &Engine,
    digest: [u8; 32],
    bytes: &[u8],
    cache: Option<&Cache>,
) -> Result<wasmtime::Module, LoadError> {
    let code = translate(engine, bytes)?;
    if let Some(cache) = cache {
        let key = Key { digest, fingerprint: engine.fingerprint() };
        if let Err(problem) = cache.write(&key, &code) {
            let folder = cache.path.display();
            tracing::warn!(%folder, %problem, "compiled module could not be cached");
        }
    }
    deserialize(engine, &code).map_err(LoadError::of_engine)
}

fn translate(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    let Some(joined) = joint::added(bytes) else { return engine.compile(bytes) };
    engine.compile(&joined).or_else(|problem| {
        // A module may have as many functions or exports as the engine allows.
        tracing::debug!(%problem, "last callbacks of a module are made one by one");
        engine.compile(bytes)
    })
}

#[allow(unsafe_code, reason = "loads code that this program compiled; the proof stands inside")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<wasmtime::Module> {
    // SAFETY: `Module::deserialize` asks for unchanged bytes that `Engine::precompile_module` returned. Those handed over
    // by `compile` come straight from there. Those handed over by `load` were read once into memory that nobody else
    // holds, from a regular file of this user in a folder that only this user may enter, and their SHA-256, taken
    // together with the module's digest and the engine's fingerprint, is the one that `write` computed over what
    // `precompile_module` returned, in this process or in another one of this program. A torn, truncated, renamed or
    // otherwise changed file has another checksum.
    unsafe { wasmtime::Module::deserialize(engine.wasmtime(), code) }
}
