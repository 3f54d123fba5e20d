//! Manifests and indexes, as registries keep them: OCI image specification 1.1, Docker image manifest 2.2.

use portcullis_vm::Digest;
use serde::Deserialize;

use super::reference::sha256;
use crate::fetch::error::{FetchError, FetchErrorKind};

/// Media types.
pub mod media {
    #![expect(missing_docs, reason = "the names of the specifications, spelt as constants")]

    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const OCI_TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const OCI_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const DOCKER_TAR_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub const WASM: &str = "application/wasm";
    pub const MODULE_WASM: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
    pub const WASM_TO_OCI: &str = "application/vnd.wasm.content.layer.v1+wasm";
}

/// What a registry says of something it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// What it hashes to.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// For whom it is; only in indexes.
    pub platform: Option<Platform>,
}

/// `os/architecture`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// `linux`, `wasip1`, …
    #[serde(default)]
    pub os: String,
    /// `amd64`, `wasm`, …
    #[serde(default)]
    pub architecture: String,
}

/// What a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Several manifests, one to be chosen.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(Manifest),
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Media type of its configuration.
    pub config: String,
    /// From the lowest.
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    media_type: Option<String>,
    manifests: Option<Vec<WrittenDescriptor>>,
    config: Option<WrittenDescriptor>,
    layers: Option<Vec<WrittenDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
    platform: Option<Platform>,
}

impl Content {
    /// Reads what came with the media type `sent`; the bytes' own one counts more.
    ///
    /// # Errors
    /// It is neither a manifest nor an index of a kind that is known.
    pub fn read(name: &str, sent: &str, bytes: &[u8]) -> Result<Content, FetchError> {
        let wrong = |cause: String| {
            FetchError::new(FetchErrorKind::Damaged, format!("{name} is no manifest"), cause)
        };
        let sent = sent.split(';').next().unwrap_or_default().trim();
        let written: Written = serde_json::from_slice(bytes).map_err(|problem| {
            wrong(format!("{sent:?} was sent, and it is not JSON: {problem}"))
        })?;
        let media_type = written.media_type.as_deref().unwrap_or(sent);
        let descriptors = |list: Option<Vec<WrittenDescriptor>>| {
            let list = list.unwrap_or_default().into_iter();
            list.map(Descriptor::read).collect::<Option<Vec<_>>>()
        };
        if written.manifests.is_some() && written.layers.is_some() {
            // Which of both it is would be for whoever sends it to say.
            return Err(wrong("it is an index and an image at once".to_owned()));
        }
        let no_digest = || wrong("a digest in it is not sha256: and 64 digits".to_owned());
        match media_type {
            media::OCI_INDEX | media::DOCKER_INDEX => {
                Ok(Content::Index(descriptors(written.manifests).ok_or_else(no_digest)?))
            }
            media::OCI_MANIFEST | media::DOCKER_MANIFEST => {
                let layers = descriptors(written.layers).ok_or_else(no_digest)?;
                let config = written.config.map(|config| config.media_type).unwrap_or_default();
                Ok(Content::Manifest(Manifest { config, layers }))
            }
            _ => Err(wrong(format!("its media type is {media_type:?}"))),
        }
    }
}

impl Descriptor {
    fn read(written: WrittenDescriptor) -> Option<Descriptor> {
        let WrittenDescriptor { media_type, digest, size, platform } = written;
        Some(Descriptor { media_type, digest: sha256(&digest)?, size, platform })
    }

    fn runs_on(&self, os: &str, architecture: &str) -> bool {
        let platform = self.platform.as_ref();
        platform.is_some_and(|own| own.os == os && own.architecture == architecture)
    }
}

/// The manifest of an index that a mesh would take: the first without a platform (so that the child whose digest Istio
/// compares is ours too), then the one for Wasm, then that of this machine, then of the commonest one.
pub fn choose(manifests: &[Descriptor]) -> Option<&Descriptor> {
    let here = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let image = |found: &&Descriptor| {
        matches!(found.media_type.as_str(), "" | media::OCI_MANIFEST | media::DOCKER_MANIFEST)
    };
    let images: Vec<&Descriptor> = manifests.iter().filter(image).collect();
    let first = |wanted: &dyn Fn(&Descriptor) -> bool| {
        images.iter().copied().find(|manifest| wanted(manifest))
    };
    first(&|manifest| manifest.platform.is_none())
        .or_else(|| first(&|manifest| manifest.runs_on("wasip1", "wasm")))
        .or_else(|| first(&|manifest| manifest.runs_on("linux", here)))
        .or_else(|| first(&|manifest| manifest.runs_on("linux", "amd64")))
}
