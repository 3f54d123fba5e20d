//! Reads files and folders into source objects.
//!
//! A folder is read flat: its `*.yaml`, `*.yml` and `*.json` that are not hidden. Kubernetes mounts a ConfigMap as a
//! folder of symlinks through one link `..data`, which it swaps; a folder whose link changes while it is read is
//! read again, so that no reading mixes two versions.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Object;
use crate::fetch::stored_bytes;

const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
const DOCUMENT_BYTES: u64 = 16 << 20;
const READINGS: usize = 10;

/// The paths given with `-c`.
#[derive(Clone, Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    /// Those that were folders once. A folder that is gone is an error: its files were not deleted one by one.
    folders: BTreeSet<PathBuf>,
}

/// A folder given with `-c` that cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {problem}")]
pub struct ReadError {
    /// As it was given.
    pub path: String,
    /// What the system says.
    pub problem: String,
}

impl Files {
    /// Files and folders, in the order in which they were given.
    pub fn new(paths: Vec<PathBuf>) -> Files {
        Files { paths, folders: BTreeSet::new() }
    }

    /// Every source object there is now, by path, none twice.
    ///
    /// A file that exists but cannot be read is an object without text; so is a file that was named itself and is
    /// gone, since nobody deletes what they name on the command line on purpose.
    ///
    /// With them come the folders that cannot be listed, or change faster than they can be read: nobody knows what is
    /// in those.
    pub fn read(&mut self) -> (Vec<Object>, Vec<ReadError>) {
        let mut lost = Vec::new();
        let mut objects: Vec<Object> = Vec::new();
        for path in &self.paths {
            let is_folder = path.is_dir();
            if is_folder {
                self.folders.insert(path.clone());
            }
            let found = match is_folder || self.folders.contains(path) {
                true => read_folder(path).unwrap_or_else(|error| {
                    lost.push(error);
                    Vec::new()
                }),
                false => vec![read_object(path)],
            };
            for object in found {
                if objects.iter().all(|known| known.name != object.name) {
                    objects.push(object);
                }
            }
        }
        (objects, lost)
    }

    /// The folders in which a change can change the objects.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.paths
            .iter()
            .flat_map(|path| if path.is_dir() { vec![path.clone()] } else { holding_folders(path) })
            .collect()
    }
}

/// The folder that holds `path`, and the one that holds what it links to.
pub(super) fn holding_folders(path: &Path) -> Vec<PathBuf> {
    let holder = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    };
    let direct = holder(path);
    let target = fs::canonicalize(path).ok().map(|target| holder(&target));
    let elsewhere = target.filter(|target| fs::canonicalize(&direct).ok().as_ref() != Some(target));
    std::iter::once(direct).chain(elsewhere).collect()
}

fn read_folder(folder: &Path) -> Result<Vec<Object>, ReadError> {
    let error = |problem: String| ReadError { path: folder.display().to_string(), problem };
    for _ in 0..READINGS {
        let before = fs::read_link(folder.join("..data")).ok();
        let listed = listing(folder).map_err(|problem| error(problem.to_string()))?;
        let objects = listed.iter().map(|path| read_object(path)).collect();
        let after = fs::read_link(folder.join("..data")).ok();
        let listed_again = listing(folder).map_err(|problem| error(problem.to_string()))?;
        if before == after && listed == listed_again {
            return Ok(objects);
        }
    }
    Err(error("it changes faster than it can be read".to_owned()))
}

fn listing(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let document = path
            .extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| ENDINGS.contains(&ending));
        if document && !hidden && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_object(path: &Path) -> Object {
    let text = stored_bytes(path, DOCUMENT_BYTES).map_err(|problem| problem.to_string()).and_then(
        |bytes| {
            String::from_utf8(bytes).map_err(|error| {
                format!("not UTF-8 from byte {}", error.utf8_error().valid_up_to())
            })
        },
    );
    Object::new(&path.display().to_string(), text)
}
