//! The last good generation on disk: the ConfigMaps that were live, with the modules they refer to as they were then.
//!
//! A proxy that starts while the API server is down serves it; one whose cluster holds something bad falls back to it. One
//! file, replaced as a whole, readable for its owner only, and verified when it is read: what is not whole is not there.

use std::fs::{self, DirBuilder};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, Bytes};
use portcullis_vm::Digest;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Candidate;
use crate::cluster::Value;
use crate::fetch::{Blob, Form, Store, stored_bytes};
use crate::plan::CONFIG_MAP;
use crate::source::{Object, Text};
use crate::spec::{Home, Reach};

const SCHEMA: &str = "portcullis.last-good/1";
/// More than that is not kept.
const FILE_BYTES: u64 = 512 << 20;
const OWNER_ONLY: u32 = 0o700;
/// How the names of files begin that are being written.
const DRAFT: &str = ".draft-";

/// Where the last good generation is kept.
#[derive(Clone, Debug)]
pub struct LastGood {
    file: PathBuf,
}

/// What the file begins with; the pieces of modules follow.
#[derive(Serialize, Deserialize)]
struct Contents {
    schema: String,
    /// Seconds since 1970.
    stored_at: u64,
    objects: Vec<StoredObject>,
}

#[derive(Serialize, Deserialize)]
struct StoredObject {
    name: String,
    namespace: String,
    mesh: bool,
    /// Name and text.
    texts: Vec<(String, String)>,
    refers_to: Vec<StoredBlob>,
}

#[derive(Serialize, Deserialize)]
struct StoredBlob {
    path: PathBuf,
    form: Form,
    sha256: Option<String>,
    /// Bytes of each piece.
    pieces: Vec<usize>,
}

impl LastGood {
    /// In `folder`, which is made where it is not there. `of`: what the generation is of, such as the API server and the
    /// namespaces; another generation is kept for each.
    ///
    /// # Errors
    /// The folder cannot be made, or others may write there.
    pub fn open(folder: &Path, of: &str) -> io::Result<LastGood> {
        DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(folder)?;
        let meta = fs::symlink_metadata(folder)?;
        let ours = meta.is_dir()
            && meta.uid() == rustix::process::geteuid().as_raw()
            && meta.mode() & 0o077 == 0;
        if !ours {
            let problem = format!("{} is not a folder of this user alone", folder.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        sweep(folder);
        let name: String = Digest::of(of.as_bytes()).to_string().chars().take(16).collect();
        Ok(LastGood { file: folder.join(name) })
    }

    /// Where it is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// When it was stored, and its objects; `None`: nothing was ever stored.
    ///
    /// # Errors
    /// The file cannot be read, or is not whole.
    pub fn load(
        &self,
        store: &Arc<Store>,
    ) -> io::Result<Option<(SystemTime, Vec<Arc<Candidate>>)>> {
        let bytes = match stored_bytes(&self.file, FILE_BYTES) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "it is not whole");
        let (sum, rest) = line(&bytes).ok_or_else(broken)?;
        if Digest::of(&rest).to_string().as_bytes() != &*sum {
            return Err(broken());
        }
        let (head, mut pieces) = line(&rest).ok_or_else(broken)?;
        let contents: Contents = serde_json::from_slice(&head)?;
        if contents.schema != SCHEMA {
            let problem =
                format!("it is a {:?}, not a {SCHEMA}: of another version", contents.schema);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let mut candidates = Vec::new();
        for object in contents.objects {
            let candidate = object.candidate(&mut pieces, store).ok_or_else(broken)?;
            candidates.push(Arc::new(candidate));
        }
        Ok(Some((UNIX_EPOCH + Duration::from_secs(contents.stored_at), candidates)))
    }

    /// Replaces what is stored by those of `live` that come from a cluster.
    ///
    /// # Errors
    /// It cannot be written, or is too large; what was stored before is still there.
    pub fn save(&self, live: &[Arc<Candidate>]) -> io::Result<()> {
        let stored_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut pieces: Vec<Bytes> = Vec::new();
        let ours = live.iter().filter(|candidate| candidate.name().starts_with(CONFIG_MAP));
        let objects = ours.map(|candidate| StoredObject::new(candidate, &mut pieces)).collect();
        let contents = Contents { schema: SCHEMA.to_owned(), stored_at, objects };
        let mut head = serde_json::to_vec(&contents)?;
        head.push(b'\n');
        pieces.insert(0, head.into());
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        if bytes as u64 > FILE_BYTES / 2 {
            let problem = format!("it has {bytes} bytes, more than {}", FILE_BYTES / 2);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
        }
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(DRAFT).tempfile_in(folder)?;
        flock(file.as_file(), FlockOperation::LockExclusive)?;
        // The sum of what follows takes the place of this. Nothing is copied: it may be as much as there is memory.
        writeln!(file, "{}", Digest([0; 32]))?;
        let mut sum = Sha256::new();
        for piece in pieces {
            sum.update(&piece);
            file.write_all(&piece)?;
        }
        file.rewind()?;
        write!(file, "{}", Digest(sum.finalize().into()))?;
        file.as_file().sync_all()?;
        file.persist(&self.file).map_err(|error| error.error)?;
        Ok(())
    }
}

impl StoredObject {
    fn new(candidate: &Candidate, pieces: &mut Vec<Bytes>) -> StoredObject {
        let object = candidate.object();
        let refers_to = candidate.blobs().into_iter().map(|(path, blob)| {
            pieces.extend(blob.pieces.iter().map(|piece| piece.bytes.clone()));
            StoredBlob {
                path,
                form: blob.form,
                sha256: blob.digest.map(|digest| digest.to_string()),
                pieces: blob.pieces.iter().map(|piece| piece.bytes.len()).collect(),
            }
        });
        let texts = candidate.texts().iter();
        StoredObject {
            name: object.name.to_string(),
            namespace: object.home.namespace.to_string(),
            mesh: object.home.reach == Reach::Mesh,
            refers_to: refers_to.collect(),
            texts: texts.map(|text| (text.name.to_string(), text.text.to_string())).collect(),
        }
    }

    /// Takes its pieces from the front of `pieces`; `None`: there are too few.
    fn candidate(self, pieces: &mut Bytes, store: &Arc<Store>) -> Option<Candidate> {
        let reach = if self.mesh { Reach::Mesh } else { Reach::Near };
        let home = Home { namespace: self.namespace.into(), reach };
        let text = |(name, text): (String, String)| Text { name: name.into(), text: text.into() };
        let texts = self.texts.into_iter().map(text).collect();
        let mut blobs = Vec::new();
        for stored in self.refers_to {
            let mut blob = Blob {
                pieces: Vec::new(),
                form: stored.form,
                digest: stored.sha256.as_deref().and_then(Digest::from_hex),
            };
            for length in stored.pieces {
                if length > pieces.len() {
                    return None;
                }
                // A part of the file would keep the whole of it in memory.
                let piece = Bytes::copy_from_slice(&pieces.split_to(length));
                blob.pieces.push(Value::new(piece));
            }
            blobs.push((stored.path, blob));
        }
        let object = Object::of(self.name.into(), home, Ok(texts));
        Some(Candidate::restored(object, store.clone(), blobs))
    }
}

/// Removes what processes that were killed have left half written; who writes holds a lock.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(DRAFT) {
            continue;
        }
        let Ok(file) = fs::File::open(entry.path()) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // One that stays takes room, and nothing else.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The first line of `bytes`, and what follows it.
fn line(bytes: &Bytes) -> Option<(Bytes, Bytes)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let mut rest = bytes.slice(end..);
    rest.advance(1);
    Some((bytes.slice(..end), rest))
}
