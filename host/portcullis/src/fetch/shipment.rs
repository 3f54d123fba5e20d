//! A module on its way into ConfigMaps: compressed, and in pieces where one ConfigMap does not hold it. What
//! [`ConfigMaps`](super::ConfigMaps) reads back.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use portcullis_vm::Digest;

use super::config_map::{Form, Index, Piece};

/// What a ConfigMap takes, with room for what the API server adds.
pub const ROOM: usize = 900 << 10;
const PIECE_KEY: &str = "piece";
/// Characters of the holder's name in that of a piece.
const NAME_CHARS: usize = 200;

/// A module as it is written.
#[derive(Debug)]
pub struct Shipment {
    /// Of the module.
    pub digest: Digest,
    /// What stands in the ConfigMap that was named.
    pub content: Stowed,
    /// Other ConfigMaps, by name, with their only key and its value; each named by its content.
    pub pieces: Vec<(String, &'static str, Bytes)>,
}

/// What stands under the key that was named.
#[derive(Debug)]
pub enum Stowed {
    /// `KEY.gz`, in `binaryData`
    Whole(Bytes),
    /// `KEY.index`, in `data`
    Index(String),
}

impl Shipment {
    /// `name`: the ConfigMap that was named; `room`: bytes that it still takes.
    ///
    /// # Errors
    /// Never in practice: it is written to memory.
    pub fn new(name: &str, module: &[u8], room: usize) -> io::Result<Shipment> {
        let digest = Digest::of(module);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(module)?;
        let stored = Bytes::from(encoder.finish()?);
        if stored.len() <= room {
            return Ok(Shipment { digest, content: Stowed::Whole(stored), pieces: Vec::new() });
        }
        let begin: String = name.chars().take(NAME_CHARS).collect();
        let mut index = Index {
            schema: Index::SCHEMA.to_owned(),
            sha256: digest.to_string(),
            form: Form::Gzip,
            pieces: Vec::new(),
        };
        let mut pieces = Vec::new();
        for start in (0..stored.len()).step_by(ROOM) {
            let piece = stored.slice(start..stored.len().min(start + ROOM));
            let sha256 = Digest::of(&piece).to_string();
            let short: String = sha256.chars().take(16).collect();
            let config_map = format!("{begin}-{short}");
            let key = PIECE_KEY.to_owned();
            index.pieces.push(Piece { config_map: config_map.clone(), key, sha256 });
            pieces.push((config_map, PIECE_KEY, piece));
        }
        let content = Stowed::Index(serde_json::to_string_pretty(&index)?);
        Ok(Shipment { digest, content, pieces })
    }
}
