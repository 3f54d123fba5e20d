//! A module out of what was fetched: plain, compressed, or in an archive.
//!
//! The content is not trusted. Nothing is written but the module, nowhere but into the file that the caller gives, and no
//! more than a module may have; memory does not grow with the content. An archive that names files outside of itself, or
//! unpacks to far more than a module, is refused whole.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, Write as _};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use portcullis_vm::Digest;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::error::{FetchError, FetchErrorKind};
use super::layout::Shape;

/// The file in an image.
const PLUGIN: &str = "plugin.wasm";
const WASM: &[u8] = b"\0asm";
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const TAR: &[u8] = b"ustar";
const TAR_AT: usize = 257;
const HEAD: usize = 512;
/// What an archive may hold beside the module.
const BESIDE: u64 = 8 << 20;
/// A compressed archive of a compressed module, and no deeper.
const DEPTH: usize = 3;
const NAME_BYTES: u64 = 64 << 10;
const SHOWN_NAMES: usize = 5;

/// Which file of an archive is the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// `plugin.wasm`, in whatever folder.
    Plugin,
    /// The first file.
    First,
}

/// What to find in a file.
pub struct Parcel<'a> {
    /// For messages.
    pub name: &'a str,
    /// What it has to be.
    pub shape: Shape,
    /// What to take from an archive.
    pub member: Member,
    /// Bytes that a module may have.
    pub limit: u64,
}

impl Parcel<'_> {
    /// Writes the module in `from` into `to`, from its beginning; its digest. Takes as long as it takes to decompress.
    ///
    /// # Errors
    /// There is none, or what there is must not be unpacked.
    pub fn open(&self, from: &mut File, to: &mut File) -> Result<Digest, FetchError> {
        let read = |problem: io::Error| self.unreadable(&problem);
        from.rewind().map_err(read)?;
        to.rewind().and_then(|()| to.set_len(0)).map_err(read)?;
        let mut reader = BufReader::new(from);
        let head = peek(&mut reader).map_err(read)?;
        let fits = match self.shape {
            Shape::Module => head.starts_with(WASM),
            Shape::Archive => head.starts_with(GZIP) || is_tar(&head),
            Shape::Any => true,
        };
        if !fits {
            let expected = if self.shape == Shape::Module { "a module" } else { "an archive" };
            let cause =
                format!("its media type says {expected}, and it begins with {}", hex(&head));
            return Err(self.no_module(&cause));
        }
        let digest = self.unbox(&mut io::Cursor::new(head).chain(reader), to, 0)?;
        to.flush().map_err(read)?;
        Ok(digest)
    }

    fn unbox(
        &self,
        from: &mut dyn Read,
        to: &mut File,
        depth: usize,
    ) -> Result<Digest, FetchError> {
        let head = peek(from).map_err(|problem| self.unreadable(&problem))?;
        let mut whole = io::Cursor::new(&head).chain(from);
        if head.starts_with(WASM) {
            return self.copy(&mut whole, to);
        }
        if depth == DEPTH {
            return Err(self.no_module("it is packed too often"));
        }
        if head.starts_with(GZIP) {
            let left = self.limit + BESIDE;
            let mut bounded = Bounded { inner: MultiGzDecoder::new(whole), left };
            return self.unbox(&mut bounded, to, depth + 1);
        }
        if is_tar(&head) {
            return self.search(&mut whole, to, depth);
        }
        Err(self.no_module(&match head.as_slice() {
            [] => "it is empty".to_owned(),
            head if head.starts_with(ZSTD) => "it is compressed with zstd, not gzip".to_owned(),
            head => format!("it begins with {}, like nothing that holds a module", hex(head)),
        }))
    }

    fn copy(&self, from: &mut dyn Read, to: &mut File) -> Result<Digest, FetchError> {
        let (mut hash, mut chunk, mut written) = (Sha256::new(), vec![0; 64 << 10], 0);
        loop {
            let read = from.read(&mut chunk).map_err(|problem| self.unreadable(&problem))?;
            let piece = chunk.get(..read).unwrap_or_default();
            if piece.is_empty() {
                return Ok(Digest(hash.finalize().into()));
            }
            written += read as u64;
            if written > self.limit {
                let title = format!("the module in {} is too large", self.name);
                let cause = format!("more than {} MiB", self.limit >> 20);
                return Err(FetchError::new(FetchErrorKind::TooLarge, title, cause));
            }
            hash.update(piece);
            to.write_all(piece).map_err(|problem| self.unreadable(&problem))?;
        }
    }

    /// Entry by entry; long names are read here, since the library would read one of any length.
    fn search(
        &self,
        from: &mut dyn Read,
        to: &mut File,
        depth: usize,
    ) -> Result<Digest, FetchError> {
        let broken = |problem: io::Error| self.unreadable(&problem);
        let (mut long_name, mut seen) = (None, Vec::new());
        let mut archive = Archive::new(from);
        for entry in archive.entries().map_err(broken)?.raw(true) {
            let mut entry = entry.map_err(broken)?;
            let kind = entry.header().entry_type();
            if matches!(kind, EntryType::XHeader | EntryType::GNULongName) {
                long_name = self.long_name(&mut entry)?.or(long_name);
                continue;
            }
            if matches!(kind, EntryType::XGlobalHeader | EntryType::GNULongLink) {
                continue;
            }
            let own = entry.path().map_err(broken)?.into_owned();
            let path = long_name.take().unwrap_or(own);
            self.inside(&path)?;
            let wanted = match self.member {
                Member::Plugin => path.file_name().is_some_and(|name| name == PLUGIN),
                Member::First => kind.is_file(),
            };
            match (wanted, kind.is_file()) {
                (true, true) => return self.unbox(&mut entry, to, depth + 1),
                (true, false) if !kind.is_dir() => {
                    return Err(
                        self.unsafe_archive(&format!("{} is no regular file", path.display()))
                    );
                }
                _ => seen.push(path.display().to_string()),
            }
            seen.truncate(SHOWN_NAMES);
        }
        let cause = match seen.as_slice() {
            [] => "the archive is empty".to_owned(),
            seen => format!("there is no {PLUGIN} in the archive, but {}", seen.join(", ")),
        };
        Err(self.no_module(&cause))
    }

    /// The name that the next entry has, where it is too long for a header.
    fn long_name(&self, entry: &mut Entry<'_, impl Read>) -> Result<Option<PathBuf>, FetchError> {
        if entry.size() > NAME_BYTES {
            return Err(self.unsafe_archive("a name in it has more than 64 KiB"));
        }
        let pax = entry.header().entry_type() == EntryType::XHeader;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|problem| self.unreadable(&problem))?;
        let path = |bytes: &[u8]| PathBuf::from(String::from_utf8_lossy(bytes).into_owned());
        if !pax {
            return Ok(Some(path(bytes.strip_suffix(b"\0").unwrap_or(&bytes))));
        }
        let named = PaxExtensions::new(&bytes).flatten().find(|field| field.key_bytes() == b"path");
        Ok(named.map(|field| path(field.value_bytes())))
    }

    fn inside(&self, path: &Path) -> Result<(), FetchError> {
        let leaves =
            |part: Component<'_>| !matches!(part, Component::Normal(_) | Component::CurDir);
        match path.components().any(leaves) {
            true => Err(self.unsafe_archive(&format!("{} lies outside of it", path.display()))),
            false => Ok(()),
        }
    }

    fn no_module(&self, cause: &str) -> FetchError {
        FetchError::new(FetchErrorKind::Layout, format!("{} holds no module", self.name), cause)
    }

    fn unsafe_archive(&self, cause: &str) -> FetchError {
        let title = format!("the archive in {} is not unpacked", self.name);
        FetchError::new(FetchErrorKind::Archive, title, cause)
    }

    fn unreadable(&self, problem: &io::Error) -> FetchError {
        if problem.get_ref().is_some_and(|inner| inner.is::<Bomb>()) {
            let most = (self.limit + BESIDE) >> 20;
            return self.unsafe_archive(&format!("it unpacks to more than {most} MiB"));
        }
        match problem.raw_os_error() {
            Some(_) => FetchError::new(
                FetchErrorKind::Folder,
                format!("{} cannot be unpacked", self.name),
                problem.to_string(),
            ),
            None => self.no_module(&format!("it is damaged: {problem}")),
        }
    }
}

/// The first bytes, as many as there are.
fn peek(from: &mut (impl Read + ?Sized)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    from.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn is_tar(head: &[u8]) -> bool {
    head.get(TAR_AT..).is_some_and(|rest| rest.starts_with(TAR))
}

fn hex(head: &[u8]) -> String {
    head.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[derive(Debug, thiserror::Error)]
#[error("more than it may be")]
struct Bomb;

/// Fails when there is more than a number of bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(Bomb))?;
        Ok(read)
    }
}
