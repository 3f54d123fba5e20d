//! `portcullis push IMAGE FILE`: publishes a module in a form that everybody reads, and says how it is pinned.
//!
//! What nobody could load is not pushed. Blobs go first, then the manifests that name them, the tag last: whoever pulls
//! meanwhile gets the old module or the new one, whole.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use portcullis_vm::inspect;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Exit, Outcome, pull, registry};
use crate::diagnose::{Code, Problem};
use crate::fetch::http::Client;
use crate::fetch::oci::{Intent, Reference, Session, Stored};
use crate::fetch::{
    FetchError, FetchErrorKind, MODULE_BYTES, Publication, Published, stored_bytes, wait_for,
};
use crate::term::{Term, table};

/// Uploads; the last line of the result is the pinned reference of the index, the one before is Istio's pin.
pub fn run(reference: &str, file: &Path, args: &registry::Args, term: &Term) -> Outcome {
    let image: Reference = match reference.parse() {
        Ok(image) => image,
        Err(error) => return pull::failed(error),
    };
    let (session, publication) = match prepare(image, file, args) {
        Ok(prepared) => prepared,
        Err(problem) => return Outcome::failed(Exit::Invalid, *problem),
    };
    let patience = Duration::from_secs(args.timeout);
    match wait_for(in_time(patience, upload(&session, &publication, term))) {
        Ok(rows) => report(session.image(), &publication, rows),
        Err(error) => pull::failed(error),
    }
}

/// Everything that can be wrong before the registry is asked.
fn prepare(
    image: Reference,
    file: &Path,
    args: &registry::Args,
) -> Result<(Session, Publication), Box<Problem>> {
    if image.digest.is_some() {
        let problem = Problem::new(Code::P0403, format!("{image} is no place to push to"));
        let cause = "the digest of what is pushed follows from the module";
        return Err(Box::new(problem.because(cause).hint("write HOST/REPOSITORY:TAG")));
    }
    let publication = publication(file)?;
    let registries = args.registries(&image)?;
    let credentials = args.credentials(&registries, &image)?;
    let session = Session::new(Client::new(registries), image, credentials, Intent::Push);
    Ok((session, publication))
}

async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    timeout(patience, work).await.unwrap_or_else(|_| {
        let cause = format!("more than {patience:?} passed");
        Err(FetchError::new(FetchErrorKind::Late, "it was not pushed in time", cause))
    })
}

fn publication(file: &Path) -> Result<Publication, Box<Problem>> {
    let name = file.display();
    let unread = |error: io::Error| {
        let problem = Problem::new(Code::P0401, format!("cannot read {name}"));
        Box::new(problem.because(error.to_string()))
    };
    let bytes = stored_bytes(file, MODULE_BYTES).map_err(unread)?;
    if let Err(error) = inspect(&bytes).and_then(|module| module.verdict()) {
        let problem = super::inspect::refusal(&name.to_string(), &error);
        let hint = "`portcullis inspect` says more; only what runs here is pushed";
        return Err(Box::new(problem.hint(hint)));
    }
    Publication::of(Bytes::from(bytes)).map_err(unread)
}

/// Sends what is not there, and says what became of each part.
async fn upload<'a>(
    session: &Session,
    publication: &'a Publication,
    term: &Term,
) -> Result<Vec<(&'a Published, Stored)>, FetchError> {
    let mut rows = Vec::new();
    for blob in &publication.blobs {
        term.detail(&format!("{} sha256:{}", blob.what, blob.digest));
        rows.push((blob, session.push_blob(&blob.bytes).await?));
    }
    for part in publication.manifests() {
        let version = match part.digest == publication.index.digest {
            true => session.image().tag().to_owned(),
            false => format!("sha256:{}", part.digest),
        };
        term.detail(&format!("{} sha256:{}", part.what, part.digest));
        let stored = session.push_manifest(&version, part.media_type, &part.bytes).await?;
        rows.push((part, stored));
    }
    Ok(rows)
}

fn word(stored: Stored) -> &'static str {
    match stored {
        Stored::Uploaded => "uploaded",
        Stored::Present => "present",
    }
}

fn report(
    image: &Reference,
    publication: &Publication,
    rows: Vec<(&Published, Stored)>,
) -> Outcome {
    let name = format!("{}/{}", image.registry, image.repository);
    let pinned = format!("{name}@sha256:{}", publication.index.digest);
    let istio = format!("{name}@sha256:{}", publication.compat.digest);
    let row = |(part, stored): &(&Published, Stored)| {
        let (digest, size) = (format!("sha256:{}", part.digest), part.bytes.len().to_string());
        vec![part.what.to_owned(), digest, size, word(*stored).to_owned()]
    };
    let cells: Vec<Vec<String>> = rows.iter().map(row).collect();
    let text = format!("{}tag: {name}:{}\nistio: {istio}\n{pinned}", table(&cells), image.tag());
    let part = |(part, stored): &(&Published, Stored)| {
        json!({
            "what": part.what,
            "mediaType": part.media_type,
            "digest": format!("sha256:{}", part.digest),
            "size": part.bytes.len(),
            "state": word(*stored),
        })
    };
    let parts: Vec<Value> = rows.iter().map(part).collect();
    let data = json!({
        "schema": "portcullis.push/1",
        "tag": format!("{name}:{}", image.tag()),
        "istio": istio,
        "pinned": pinned,
        "parts": parts,
    });
    let next = format!("url: oci://{pinned} in a WasmFilter, or istio's in a WasmPlugin");
    Outcome { next: Some(next), ..Outcome::fine(text, data) }
}
