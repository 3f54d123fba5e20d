//! Reading from a repository: manifests and blobs, checked against their digests.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderValue, StatusCode};
use portcullis_vm::Digest;

use super::{Ask, Content, Descriptor, Session, media, unexpected};
use crate::fetch::digest_of;
use crate::fetch::error::{FetchError, FetchErrorKind};
use crate::fetch::http::{Answer, again};

/// Far more than that of a module has. What is read of it may take twenty times as much memory.
pub(super) const MANIFEST_BYTES: usize = 2 << 20;

/// What a registry has under a tag or digest.
#[derive(Clone, Debug)]
pub struct Found {
    /// What `bytes` hash to.
    pub digest: Digest,
    /// As it is kept.
    pub bytes: Bytes,
    /// What it says.
    pub content: Content,
}

impl Session {
    /// The manifest or index under `version`, a tag or `sha256:…`.
    ///
    /// # Errors
    /// It cannot be had, is not what a digest asked for, or is no manifest.
    pub async fn content(&self, version: &str) -> Result<Found, FetchError> {
        let mut ask = Ask::get(self.url(&format!("manifests/{version}"))?);
        let kinds =
            [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_INDEX, media::DOCKER_MANIFEST];
        if let Ok(kinds) = HeaderValue::try_from(kinds.join(", ")) {
            ask.headers.insert(ACCEPT, kinds);
        }
        let answer = self.get(&ask).await?;
        let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        let bytes = answer.whole(MANIFEST_BYTES).await?;
        let digest = Digest::of(&bytes);
        let name = format!("{}/{} {version}", self.image().registry, self.image().repository);
        if super::sha256(version).is_some_and(|wanted| wanted != digest) {
            let title = format!("{name} is not what was asked for");
            let cause = format!("its digest is sha256:{digest}");
            return Err(FetchError::new(FetchErrorKind::Damaged, title, cause));
        }
        let content = Content::read(&name, &kind, &bytes)?;
        Ok(Found { digest, bytes, content })
    }

    /// A small blob, such as a signature's payload.
    ///
    /// # Errors
    /// It cannot be had, or is not what its descriptor says.
    pub async fn blob(&self, blob: &Descriptor, limit: usize) -> Result<Bytes, FetchError> {
        let answer = self.get(&Ask::get(self.url(&resource(blob))?)).await?;
        let bytes = answer.whole(limit).await?;
        match Digest::of(&bytes) == blob.digest {
            true => Ok(bytes),
            false => Err(self.other_bytes(blob)),
        }
    }

    /// A blob into `file`, after what of it lies there already; then rewound. What arrived stays there when the rest
    /// does not, and a registry that knows ranges sends only that next time.
    ///
    /// # Errors
    /// It cannot be had, is longer than `limit` or than its descriptor says, or is not what that says.
    pub async fn blob_into(
        &self,
        blob: &Descriptor,
        limit: u64,
        file: &mut File,
    ) -> Result<(), FetchError> {
        if blob.size > limit {
            let title = format!("a layer of {} has {} bytes", self.image(), blob.size);
            let cause = format!("more than {limit}");
            return Err(FetchError::new(FetchErrorKind::TooLarge, title, cause));
        }
        let mut attempt = 0;
        loop {
            let resumed = file.metadata().map_err(unwritable)?.len().min(blob.size);
            let tried = self.rest_into(blob, resumed, file).await;
            attempt += 1;
            let error = match tried {
                Ok(()) if digest_of(file).map_err(unwritable)? == blob.digest => {
                    return file.rewind().map_err(unwritable);
                }
                Ok(()) => self.other_bytes(blob),
                Err(error) if again(attempt, &error).await => continue,
                // What lies there is as good as what would have come.
                Err(error) if !error.is_baffling() => return Err(error),
                Err(error) => error,
            };
            // It is of no use, or the registry does not know what to do with a range. What lay there may be to blame.
            file.set_len(0).map_err(unwritable)?;
            if resumed == 0 {
                return Err(error);
            }
        }
    }

    /// Everything from byte `from` on.
    async fn rest_into(
        &self,
        blob: &Descriptor,
        from: u64,
        file: &mut File,
    ) -> Result<(), FetchError> {
        if from == blob.size && from > 0 {
            return Ok(());
        }
        let mut ask = Ask::get(self.url(&resource(blob))?);
        if let Ok(range) = HeaderValue::try_from(format!("bytes={from}-"))
            && from > 0
        {
            ask.headers.insert(RANGE, range);
        }
        let mut answer = self.get(&ask).await?;
        let mut at = begins_at(&answer, from)?;
        file.set_len(at).map_err(unwritable)?;
        file.seek(SeekFrom::Start(at)).map_err(unwritable)?;
        while let Some(piece) = answer.piece().await? {
            at += piece.len() as u64;
            if at > blob.size {
                file.set_len(0).map_err(unwritable)?;
                let title = format!("{} sends too much", self.image().registry);
                let cause = format!(
                    "a layer of {} has more than the {} bytes that its manifest \
                                     says",
                    self.image(),
                    blob.size
                );
                return Err(FetchError::new(FetchErrorKind::Damaged, title, cause));
            }
            file.write_all(&piece).map_err(unwritable)?;
        }
        if at < blob.size {
            let title = format!("{} sends too little", self.image().registry);
            let cause = format!("{at} of the {} bytes of a layer came", blob.size);
            return Err(FetchError::new(FetchErrorKind::Damaged, title, cause).again());
        }
        Ok(())
    }

    fn other_bytes(&self, blob: &Descriptor) -> FetchError {
        let title = format!("a layer of {} is not what was asked for", self.image());
        let cause = format!("its digest is not sha256:{}", blob.digest);
        FetchError::new(FetchErrorKind::Damaged, title, cause)
    }
}

fn resource(blob: &Descriptor) -> String {
    format!("blobs/sha256:{}", blob.digest)
}

/// The first byte of an answer to a request for those from `asked` on. Whoever does not know ranges sends all.
fn begins_at(answer: &Answer, asked: u64) -> Result<u64, FetchError> {
    if answer.status != StatusCode::PARTIAL_CONTENT {
        return Ok(0);
    }
    let range = answer.headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let first =
        range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    if first == Some(asked) { Ok(asked) } else { Err(unexpected(answer)) }
}

fn unwritable(problem: std::io::Error) -> FetchError {
    FetchError::new(FetchErrorKind::Folder, "a blob cannot be kept", problem.to_string())
}
