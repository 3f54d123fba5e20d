//! What one version of one source object refers to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use portcullis_vm::{Digest, Module};

use super::{MODULE_BYTES, Store, Version, lock, stored_bytes};
use crate::plan::ModuleError;

/// Files as they were when they were first asked for. A shelf never reads a file twice.
pub struct Shelf {
    store: Arc<Store>,
    items: Mutex<BTreeMap<PathBuf, Item>>,
}

#[derive(Clone)]
struct Item {
    /// `None`: there was nothing to read.
    version: Option<Version>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Bytes(Bytes),
    /// Compiled; what it was compiled from is not kept.
    Module(Arc<Module>),
    /// Read, and of no use as a module: that is not tried twice.
    Unfit(Bytes, ModuleError),
    Unreadable(io::ErrorKind, String),
}

impl Shelf {
    /// An empty one.
    pub fn new(store: Arc<Store>) -> Shelf {
        Shelf { store, items: Mutex::default() }
    }

    /// The bytes of a certificate or key.
    ///
    /// # Errors
    /// It could not be read when it was first asked for: what the system said.
    pub fn bytes(&self, path: &Path) -> Result<Bytes, String> {
        match self.item(path).content {
            Content::Bytes(bytes) | Content::Unfit(bytes, _) => Ok(bytes),
            Content::Module(_) => Err("it is used as a module".to_owned()),
            Content::Unreadable(_, problem) => Err(problem),
        }
    }

    /// The module in a file, compiled; `wanted` is the digest it must have.
    ///
    /// # Errors
    /// It could not be read, has another digest, or is no module that can run here.
    pub fn module(&self, path: &Path, wanted: Option<Digest>) -> Result<Arc<Module>, ModuleError> {
        let named = || path.display().to_string();
        let pinned = |found: Digest| match wanted {
            Some(wanted) if wanted != found => {
                Err(ModuleError::WrongDigest { path: named(), found })
            }
            _ => Ok(()),
        };
        let bytes = match self.item(path).content {
            Content::Bytes(bytes) => bytes,
            Content::Module(module) => return pinned(module.digest()).map(|()| module),
            Content::Unfit(_, error) => return Err(error),
            Content::Unreadable(io::ErrorKind::FileTooLarge, _) => {
                let size = path.metadata().map_or(MODULE_BYTES + 1, |meta| meta.len());
                return Err(ModuleError::TooLarge { path: named(), size, limit: MODULE_BYTES });
            }
            Content::Unreadable(_, problem) => {
                return Err(ModuleError::Unreadable { path: named(), problem });
            }
        };
        pinned(Digest::of(&bytes))?;
        let made = self.store.compile(&bytes);
        if let Some(item) = lock(&self.items).get_mut(path) {
            item.content = match &made {
                Ok(module) => Content::Module(module.clone()),
                Err(error) => Content::Unfit(bytes, error.clone()),
            };
        }
        made
    }

    /// The files on the shelf, with their content's version.
    pub fn files(&self) -> BTreeMap<PathBuf, Option<Version>> {
        lock(&self.items).iter().map(|(path, item)| (path.clone(), item.version)).collect()
    }

    /// Whether every file still has the content it has here.
    pub fn is_current(&self) -> bool {
        self.files().iter().all(|(path, version)| self.store.version(path) == *version)
    }

    /// Forgets that the compiler gave up on a module: it may have been the machine's fault.
    pub fn try_again(&self) {
        for item in lock(&self.items).values_mut() {
            if let Content::Unfit(bytes, ModuleError::Compiler { .. }) = &item.content {
                item.content = Content::Bytes(bytes.clone());
            }
        }
    }

    fn item(&self, path: &Path) -> Item {
        let mut items = lock(&self.items);
        let read = || match stored_bytes(path, MODULE_BYTES) {
            Ok(bytes) => {
                Item { version: Some(Version::of(&bytes)), content: Content::Bytes(bytes.into()) }
            }
            Err(problem) => {
                let content = Content::Unreadable(problem.kind(), problem.to_string());
                Item { version: None, content }
            }
        };
        items.entry(path.to_owned()).or_insert_with(read).clone()
    }
}
