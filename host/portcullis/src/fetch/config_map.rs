//! Modules and other files under the keys of ConfigMaps: `configmap://NAMESPACE/NAME/KEY`.
//!
//! A module may be stored plainly, compressed (`KEY.gz`, `KEY.zst`), or in pieces in other ConfigMaps of the same namespace
//! that an index (`KEY.index`) names. Nothing that is stored can make us hold more than a module may have.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use portcullis_vm::Digest;
use ruzstd::decoding::StreamingDecoder;
use serde::{Deserialize, Serialize};

use super::{MODULE_BYTES, Version};
use crate::cluster::{ConfigMap, Value};
use crate::plan::CONFIG_MAP;

/// More than the pieces of the largest module are.
const PIECES: usize = 128;
/// How far back a frame of zstd may refer, which is held in memory.
const WINDOW_BYTES: u64 = MODULE_BYTES;

/// The ConfigMaps of the cluster as they were at one moment, by `NAMESPACE/NAME`.
#[derive(Clone, Default)]
pub struct ConfigMaps(Arc<BTreeMap<String, Arc<ConfigMap>>>);

/// What is stored for a key.
#[derive(Clone, Debug)]
pub struct Blob {
    /// As they are stored.
    pub pieces: Vec<Value>,
    /// How.
    pub form: Form,
    /// What must come out; `None`: anything.
    pub digest: Option<Digest>,
}

/// How bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// As they are.
    Plain,
    /// RFC 1952
    Gzip,
    /// RFC 8878
    Zstd,
}

/// The content of a key that ends in `.wasm.index`: which pieces a module consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// [`Index::SCHEMA`]
    pub schema: String,
    /// Of the module, in hexadecimal digits.
    pub sha256: String,
    /// How the pieces together are stored.
    pub form: Form,
    /// In order.
    pub pieces: Vec<Piece>,
}

/// A part of a stored module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Piece {
    /// Name of a ConfigMap in the same namespace.
    pub config_map: String,
    /// Where in it.
    pub key: String,
    /// Of the piece, in hexadecimal digits.
    pub sha256: String,
}

impl Index {
    /// Of this form of an index.
    pub const SCHEMA: &'static str = "portcullis.index/1";
}

/// Whether a path names a key of a ConfigMap.
pub fn is_config_map(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with(CONFIG_MAP))
}

/// `NAMESPACE/NAME` of `configmap://NAMESPACE/NAME/KEY`, and the key.
pub fn split(path: &Path) -> Option<(&str, &str)> {
    let (map, key) = path.to_str()?.strip_prefix(CONFIG_MAP)?.rsplit_once('/')?;
    let (namespace, name) = map.split_once('/')?;
    let whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    (whole && !key.is_empty()).then_some((map, key))
}

impl ConfigMaps {
    /// Each under its own name.
    pub fn new(maps: impl IntoIterator<Item = Arc<ConfigMap>>) -> ConfigMaps {
        let named = maps.into_iter().map(|map| (format!("{}/{}", map.namespace, map.name), map));
        ConfigMaps(Arc::new(named.collect()))
    }

    /// The one called `NAMESPACE/NAME`.
    pub fn get(&self, name: &str) -> Option<&Arc<ConfigMap>> {
        self.0.get(name)
    }

    /// The `resourceVersion` of each.
    pub fn revisions(&self) -> BTreeMap<String, String> {
        let revision =
            |(name, map): (&String, &Arc<ConfigMap>)| (name.clone(), map.resource_version.clone());
        self.0.iter().map(revision).collect()
    }

    /// What is stored under `configmap://NAMESPACE/NAME/KEY`, in whatever form.
    ///
    /// # Errors
    /// What is missing.
    pub fn find(&self, path: &Path) -> Result<Blob, String> {
        let (name, key) = split(path).ok_or("this is not configmap://NAMESPACE/NAME/KEY")?;
        if self.0.is_empty() {
            return Err("no ConfigMap is known here; is this `run --kubernetes`?".to_owned());
        }
        let map = self.get(name).ok_or_else(|| {
            format!("there is no ConfigMap {name} with the label that is watched")
        })?;
        let stored = |ending: &str| {
            let stored = format!("{key}{ending}");
            map.values.get(&stored).map(|value| (Form::of(&stored), value.clone()))
        };
        if let Some((form, value)) = stored("").or_else(|| stored(".gz")).or_else(|| stored(".zst"))
        {
            return Ok(Blob { pieces: vec![value], form, digest: None });
        }
        match map.values.get(&format!("{key}.index")) {
            Some(index) => self.assemble(map, &index.bytes),
            None => Err(format!("the ConfigMap {name} has no key {key}")),
        }
    }

    /// Of what is stored there, or of the reason why nothing is.
    pub fn version(&self, path: &Path) -> Version {
        match self.find(path) {
            Ok(blob) => blob.version(),
            Err(problem) => Version::of(problem.as_bytes()),
        }
    }

    fn assemble(&self, map: &ConfigMap, index: &[u8]) -> Result<Blob, String> {
        let index: Index = serde_json::from_slice(index)
            .map_err(|error| format!("the index cannot be read: {error}"))?;
        if index.schema != Index::SCHEMA {
            return Err(format!("the index is a {:?}, not a {}", index.schema, Index::SCHEMA));
        }
        if index.pieces.len() > PIECES {
            return Err(format!("the index names more than {PIECES} pieces"));
        }
        let piece = |piece: &Piece| {
            let name = format!("{}/{}", map.namespace, piece.config_map);
            let holder = self.get(&name).ok_or_else(|| format!("the piece {name} is missing"))?;
            let value = holder.values.get(&piece.key);
            let value = value.ok_or_else(|| format!("{name} has no key {}", piece.key))?;
            match value.digest.to_string() == piece.sha256 {
                true => Ok(value.clone()),
                false => Err(format!("{name} holds another piece: its digest is {}", value.digest)),
            }
        };
        let digest = Digest::from_hex(&index.sha256).ok_or("the index names no SHA-256 digest")?;
        let pieces: Result<Vec<Value>, String> = index.pieces.iter().map(piece).collect();
        Ok(Blob { pieces: pieces?, form: index.form, digest: Some(digest) })
    }
}

impl Form {
    /// By the ending of a key.
    pub fn of(key: &str) -> Form {
        match key.rsplit('.').next() {
            Some("gz") => Form::Gzip,
            Some("zst") => Form::Zstd,
            _ => Form::Plain,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Plain => "plain",
            Form::Gzip => "gzip",
            Form::Zstd => "zstd",
        })
    }
}

impl Blob {
    /// Of what is stored, and how.
    pub fn version(&self) -> Version {
        let form = Version::of(self.form.to_string().as_bytes());
        form.with(self.pieces.iter().map(|piece| Some(Version::from(piece.digest))))
    }

    /// What comes out.
    ///
    /// # Errors
    /// It is damaged, not what the index says, or more than a module may have.
    pub fn open(&self) -> io::Result<Bytes> {
        if let (Form::Plain, [piece]) = (self.form, self.pieces.as_slice()) {
            return Ok(piece.bytes.clone());
        }
        let pieces = Pieces(self.pieces.iter().map(|piece| piece.bytes.clone()).collect());
        let bytes = match self.form {
            Form::Plain => whole(pieces),
            Form::Gzip => whole(MultiGzDecoder::new(pieces)),
            Form::Zstd => StreamingDecoder::new_with_max_window_size(pieces, WINDOW_BYTES)
                .map_err(io::Error::other)
                .and_then(whole),
        };
        let bytes = bytes.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => error,
            kind => io::Error::new(kind, format!("not whole as {}: {error}", self.form)),
        })?;
        match self.digest.filter(|wanted| *wanted != Digest::of(&bytes)) {
            Some(wanted) => {
                let found = Digest::of(&bytes);
                let problem = format!("its digest is {found}, and the index says {wanted}");
                Err(io::Error::new(io::ErrorKind::InvalidData, problem))
            }
            None => Ok(bytes.into()),
        }
    }
}

/// At most as much as a module may have.
fn whole(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MODULE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MODULE_BYTES {
        let problem = format!("larger than {} MiB", MODULE_BYTES >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// Reads one after the other.
struct Pieces(std::collections::VecDeque<Bytes>);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(first) = self.0.front_mut() {
            if first.is_empty() {
                self.0.pop_front();
                continue;
            }
            let part = first.split_to(first.len().min(buffer.len()));
            if let Some(target) = buffer.get_mut(..part.len()) {
                target.copy_from_slice(&part);
            }
            return Ok(part.len());
        }
        Ok(0)
    }
}
