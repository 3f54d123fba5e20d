//! The form in which modules are published: one OCI index that serves everybody.
//!
//! Istio and Envoy Gateway resolve an index to its first child for linux/amd64, a child without platform counting as that,
//! and compare the *child's* digest with what a document pins: so the image they can read stands first and has none. `wkg` and
//! other tools of the CNCF's artifact form pick the child of a platform and pass over what has none. Same module, same bytes:
//! nothing here looks at a clock, and no map decides an order. It uploads nothing.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use portcullis_vm::Digest;
use serde::Serialize;

use super::oci::media;

const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// The name by which readers find the module in an image.
const PLUGIN: &str = "plugin.wasm";
/// Where the CNCF's form is offered: architectures that tools ask for when they mean "here", and Wasm by its own name.
const PLATFORMS: [(&str, &str); 3] = [("linux", "amd64"), ("linux", "arm64"), ("wasip1", "wasm")];
/// The form demands a time of creation.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// A blob or a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// What it is, for people.
    pub what: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Of `bytes`.
    pub digest: Digest,
    /// As they are uploaded.
    pub bytes: Bytes,
}

/// Everything that is uploaded for one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// In no particular order, but before the manifests.
    pub blobs: Vec<Published>,
    /// The image that Istio and Envoy Gateway read, and whose digest they want pinned.
    pub compat: Published,
    /// The CNCF's Wasm artifact.
    pub artifact: Published,
    /// Names both, and is what a tag should name.
    pub index: Published,
}

impl Publication {
    /// Puts `module` in every form.
    ///
    /// # Errors
    /// Only a module that does not fit into a tar archive: memory is all that is written to.
    pub fn of(module: Bytes) -> io::Result<Publication> {
        let archive = archive(&module)?;
        let image_config = ImageConfig {
            architecture: "amd64",
            os: "linux",
            config: Nothing {},
            rootfs: RootFs { r#type: "layers", diff_ids: [named(Digest::of(&archive))] },
        };
        let image_config = Published::json("image configuration", IMAGE_CONFIG, &image_config)?;
        let layer = Published::new("image layer", media::OCI_TAR_GZIP, compressed(&archive)?);
        let variant = BTreeMap::from([("module.wasm.image/variant", "compat")]);
        let compat = Manifest::of(&image_config, &layer, variant);
        let compat = Published::json("image for Istio and Envoy", media::OCI_MANIFEST, &compat)?;

        let module = Published::new("module", media::WASM, module);
        let wasm_config = WasmConfig {
            created: EPOCH,
            architecture: "wasm",
            os: "wasip1",
            layer_digests: [named(module.digest)],
        };
        let wasm_config = Published::json("module configuration", WASM_CONFIG, &wasm_config)?;
        let artifact = Manifest::of(&wasm_config, &module, BTreeMap::new());
        let artifact = Published::json("Wasm artifact", media::OCI_MANIFEST, &artifact)?;

        let platforms = PLATFORMS.map(|(os, architecture)| Platform { architecture, os });
        let children = platforms.map(|platform| artifact.descriptor(Some(platform)));
        let manifests = [compat.descriptor(None)].into_iter().chain(children).collect();
        let index = Index { schema_version: 2, media_type: media::OCI_INDEX, manifests };
        let index = Published::json("index", media::OCI_INDEX, &index)?;
        let blobs = vec![layer, image_config, module, wasm_config];
        Ok(Publication { blobs, compat, artifact, index })
    }

    /// In the order in which a registry takes them: nothing names what is not there yet.
    pub fn manifests(&self) -> [&Published; 3] {
        [&self.compat, &self.artifact, &self.index]
    }
}

impl Published {
    fn new(what: &'static str, media_type: &'static str, bytes: impl Into<Bytes>) -> Published {
        let bytes = bytes.into();
        Published { what, media_type, digest: Digest::of(&bytes), bytes }
    }

    fn json(
        what: &'static str,
        media_type: &'static str,
        value: &impl Serialize,
    ) -> io::Result<Published> {
        Ok(Published::new(what, media_type, serde_json::to_vec(value)?))
    }

    fn descriptor(&self, platform: Option<Platform>) -> Descriptor {
        let (media_type, size) = (self.media_type, self.bytes.len());
        Descriptor { media_type, digest: named(self.digest), size, platform }
    }
}

fn named(digest: Digest) -> String {
    format!("sha256:{digest}")
}

/// A tar archive with nothing but the module in it.
fn archive(module: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(PLUGIN)?;
    header.set_size(module.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::with_capacity(module.len() + 2048));
    archive.append(&header, module)?;
    archive.into_inner()
}

fn compressed(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(archive)?;
    encoder.finish()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    media_type: &'static str,
    config: Descriptor,
    layers: [Descriptor; 1],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, &'static str>,
}

impl Manifest {
    fn of(
        config: &Published,
        layer: &Published,
        annotations: BTreeMap<&'static str, &'static str>,
    ) -> Manifest {
        let (config, layers) = (config.descriptor(None), [layer.descriptor(None)]);
        Manifest { schema_version: 2, media_type: media::OCI_MANIFEST, config, layers, annotations }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
}

#[derive(Serialize)]
struct Platform {
    architecture: &'static str,
    os: &'static str,
}

#[derive(Serialize)]
struct ImageConfig {
    architecture: &'static str,
    os: &'static str,
    config: Nothing,
    rootfs: RootFs,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct RootFs {
    r#type: &'static str,
    diff_ids: [String; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WasmConfig {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [String; 1],
}
