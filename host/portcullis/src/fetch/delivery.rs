//! Carries an order out: asks the registry or server, fetches, unpacks, keeps.

use std::fs::File;
use std::io::Write as _;

use bytes::Bytes;
use http::Uri;
use http::uri::Scheme;
use portcullis_vm::Digest;
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::downloads::{Downloads, Known, Lease};
use super::error::{FetchError, FetchErrorKind};
use super::evidence;
use super::http::{Ask, Client, Origin, again, is_passing, shown};
use super::layout::{Shape, module_layer};
use super::oci::{Content, Credentials, Intent, Manifest, Reference, Session, choose};
use super::order::{Address, Delivery, Order, Reach, name_of, name_of_file, shown_url};
use super::unpack::{Member, Parcel};
use super::{MODULE_BYTES, wait_for};
use crate::plan::PullSecret;
use crate::signature::Distrust;

/// A delivery and what it holds.
#[derive(Clone, Debug)]
pub struct Brought {
    /// What came.
    pub delivery: Delivery,
    /// The module.
    pub bytes: Bytes,
}

impl Order {
    /// Brings the module: from this machine, or from where it is.
    ///
    /// Cancel safe: what has arrived of a layer stays for the next attempt.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn deliver(
        &self,
        downloads: &Downloads,
        reach: Reach,
    ) -> Result<Delivery, FetchError> {
        let address = self.address()?;
        if let Some(delivery) = self.at_hand(downloads, reach) {
            return Ok(delivery);
        }
        if matches!(address, Address::Web(_)) && !self.trust.is_empty() {
            return Err(evidence::distrusted(&shown_url(&self.url), &Distrust::NoPlace));
        }
        if reach == Reach::Offline {
            let title = format!("{} is not on this machine", shown_url(&self.url));
            let cause = match self.trust.is_empty() {
                true => "nothing is fetched offline",
                false => "it, or a signature by the right key; nothing is fetched offline",
            };
            return Err(FetchError::new(FetchErrorKind::Offline, title, cause));
        }
        let config = match address {
            Address::Image(_) => self.docker_config().await?,
            Address::Web(_) => None,
        };
        let patience = self.patience();
        let brought = async {
            match address {
                Address::Image(image) => self.image(&image, config, downloads).await,
                Address::Web(uri) => self.web(uri, downloads).await,
            }
        };
        timeout(patience, brought).await.unwrap_or_else(|_| {
            let title = format!("{} did not arrive in time", shown_url(&self.url));
            let cause = format!("more than {patience:?} passed");
            Err(FetchError::new(FetchErrorKind::Late, title, cause))
        })
    }

    /// Brings the module, and waits for it.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn bring(&self, downloads: &Downloads) -> Result<Brought, FetchError> {
        let delivery = wait_for(self.deliver(downloads, Reach::Network))?;
        let found = downloads.module(delivery.module).map(|(bytes, _)| bytes);
        let bytes = found.ok_or_else(|| {
            let title = format!("{} is damaged on disk", delivery.pinned);
            FetchError::new(FetchErrorKind::Folder, title, "it was sound a moment ago")
        })?;
        Ok(Brought { delivery, bytes })
    }

    async fn image(
        &self,
        image: &Reference,
        config: Option<Bytes>,
        downloads: &Downloads,
    ) -> Result<Delivery, FetchError> {
        let client = Client::new(self.registries.clone());
        let credentials = self.credentials(&client, image, config.as_ref())?;
        let session = Session::new(client, image.clone(), credentials, Intent::Pull);
        let found = session.content(&image.version()).await?;
        let (chosen, manifest) = manifest(&session, found.digest, found.content).await?;
        evidence::vouch(&self.trust, &session, [found.digest, chosen], downloads).await?;
        let (module, lease) = layer(&session, (chosen, &manifest), downloads).await?;
        let known = Known { digest: found.digest, module };
        downloads.remember(&name_of(&image.pinned(found.digest)), &known)?;
        if image.digest.is_none() {
            downloads.remember(&name_of(image), &known)?;
        }
        Ok(self.delivery(&known, lease))
    }

    /// The docker config of the filter's own pull secret, as it is now.
    async fn docker_config(&self) -> Result<Option<Bytes>, FetchError> {
        let (namespace, name) = match &self.secret {
            None => return Ok(None),
            Some(PullSecret::Config(config)) => return Ok(Some(config.clone())),
            Some(PullSecret::Held { namespace, name }) => (namespace, name),
        };
        let Some(secrets) = &self.secrets else {
            let title = format!("cannot read the Secret {namespace}/{name}");
            return Err(FetchError::new(FetchErrorKind::Secret, title, "there is no cluster"));
        };
        let found = secrets.docker_config(namespace, name).await;
        found.map(Some).map_err(|reason| FetchError::of_secret(namespace, name, &reason))
    }

    fn credentials(
        &self,
        client: &Client,
        image: &Reference,
        config: Option<&Bytes>,
    ) -> Result<Option<Credentials>, FetchError> {
        let origin = Origin::of(&image.url(&Scheme::HTTPS, "")?)?;
        let plain = Origin { secure: false, ..origin.clone() };
        let named = client.named(&origin).or(client.named(&plain));
        let named = named.and_then(|registry| registry.credentials.as_ref());
        for config in config.into_iter().chain(named) {
            let found = Credentials::of(config, image).map_err(|problem| {
                let title = format!("the credentials for {} cannot be used", image.registry);
                FetchError::new(FetchErrorKind::Denied, title, problem)
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    async fn web(&self, uri: Uri, downloads: &Downloads) -> Result<Delivery, FetchError> {
        let name = shown(&uri);
        let file = self.download(&uri, downloads).await?;
        let (module, draft) =
            open(file, name.clone(), (Shape::Any, Member::First), downloads).await?;
        if let Some(pin) = self.sha256.filter(|pin| *pin != module) {
            let title = format!("{name} is not the expected module");
            let cause = format!("its digest is sha256:{module}, not sha256:{pin}");
            return Err(FetchError::new(FetchErrorKind::Damaged, title, cause));
        }
        let lease = downloads.keep(draft, module)?;
        let known = Known { digest: module, module };
        downloads.remember(&name_of_file(&uri), &known)?;
        Ok(self.delivery(&known, lease))
    }

    /// What a server sends, asked again after what passes.
    async fn download(&self, uri: &Uri, downloads: &Downloads) -> Result<File, FetchError> {
        let client = Client::new(self.registries.clone());
        let mut attempt = 0;
        loop {
            attempt += 1;
            let tried = download_once(&client, uri, downloads).await;
            match &tried {
                Err(error) if again(attempt, error).await => {}
                _ => return tried,
            }
        }
    }
}

/// The file has no name any more, and goes when it is closed.
async fn download_once(
    client: &Client,
    uri: &Uri,
    downloads: &Downloads,
) -> Result<File, FetchError> {
    let name = shown(uri);
    let mut answer = client.send(Ask::get(uri.clone())).await?;
    let status = answer.status;
    if !status.is_success() {
        let kind = match status.as_u16() {
            401 | 403 => FetchErrorKind::Denied,
            404 | 410 => FetchErrorKind::Missing,
            _ => FetchErrorKind::Unreachable,
        };
        let title = format!("{name} cannot be had");
        let error = FetchError::new(kind, title, format!("it answered {status}"));
        return Err(match is_passing(status) {
            true => error.after(&answer.headers),
            false => error.lasting(),
        });
    }
    let mut file = downloads.draft()?.into_file();
    let mut written = 0;
    while let Some(piece) = answer.piece().await? {
        written += piece.len() as u64;
        if written > MODULE_BYTES {
            let cause = format!("more than {} MiB", MODULE_BYTES >> 20);
            let title = format!("{name} is too large");
            return Err(FetchError::new(FetchErrorKind::TooLarge, title, cause));
        }
        io(file.write_all(&piece))?;
    }
    Ok(file)
}

/// An image, or the one of an index that is meant.
async fn manifest(
    session: &Session,
    digest: Digest,
    content: Content,
) -> Result<(Digest, Manifest), FetchError> {
    let image = session.image();
    let manifests = match content {
        Content::Manifest(manifest) => return Ok((digest, manifest)),
        Content::Index(manifests) => manifests,
    };
    let none = |cause: &str| {
        FetchError::new(FetchErrorKind::Layout, format!("{image} has no module"), cause)
    };
    let chosen = choose(&manifests)
        .ok_or_else(|| none("its index has no manifest without platform, for wasm or for linux"))?;
    match session.content(&format!("sha256:{}", chosen.digest)).await?.content {
        Content::Manifest(manifest) => Ok((chosen.digest, manifest)),
        Content::Index(_) => Err(none("its index leads to another index")),
    }
}

/// The module of an image, which may be here already, or be on its way to another process.
async fn layer(
    session: &Session,
    (digest, manifest): (Digest, &Manifest),
    downloads: &Downloads,
) -> Result<(Digest, Lease), FetchError> {
    let name = name_of(&session.image().pinned(digest));
    let here = || {
        let known = downloads.known(&name)?;
        downloads.lease(known.module).map(|lease| (known.module, lease))
    };
    if let Some(here) = here() {
        return Ok(here);
    }
    let (layer, shape) = module_layer(session.image(), manifest)?;
    // Of this repository alone: another may send anything under the same digest, and take its time over it.
    let Reference { registry, repository, .. } = session.image();
    let own = format!("{registry}/{repository}@sha256:{}", layer.digest);
    let mut part = downloads.part(Digest::of(own.as_bytes())).await?;
    if let Some(here) = here() {
        part.discard();
        return Ok(here);
    }
    session.blob_into(layer, MODULE_BYTES, &mut part.file).await?;
    let file = io(part.file.try_clone())?;
    let image = session.image().to_string();
    let opened = open(file, image, (shape, Member::Plugin), downloads).await;
    let kept = opened.and_then(|(module, draft)| {
        let lease = downloads.keep(draft, module)?;
        downloads.remember(&name, &Known { digest, module })?;
        Ok((module, lease))
    });
    // Good or bad, it is of no more use.
    part.discard();
    kept
}

/// Unpacks apart from everybody who waits for the network.
async fn open(
    mut from: File,
    name: String,
    (shape, member): (Shape, Member),
    downloads: &Downloads,
) -> Result<(Digest, NamedTempFile), FetchError> {
    let mut draft = downloads.draft()?;
    let unpacked = spawn_blocking(move || {
        let parcel = Parcel { name: &name, shape, member, limit: MODULE_BYTES };
        parcel.open(&mut from, draft.as_file_mut()).map(|module| (module, draft))
    });
    unpacked.await.unwrap_or_else(|problem| {
        let title = "unpacking came to no end";
        Err(FetchError::new(FetchErrorKind::Folder, title, problem.to_string()))
    })
}

fn io<T>(result: std::io::Result<T>) -> Result<T, FetchError> {
    result.map_err(|problem| {
        let title = "fetched modules cannot be kept";
        FetchError::new(FetchErrorKind::Folder, title, problem.to_string())
    })
}
