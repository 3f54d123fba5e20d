//! The published form of a module, read by the rules of those who will read it.

use std::io::Read as _;

use flate2::read::GzDecoder;
use portcullis::fetch::{Publication, Published};
use serde_json::Value;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn published() -> Publication {
    Publication::of(MODULE.into()).unwrap()
}

fn json(part: &Published) -> Value {
    serde_json::from_slice(&part.bytes).unwrap()
}

/// What a descriptor stands for, as a registry would find it.
fn at<'a>(publication: &'a Publication, descriptor: &Value) -> &'a Published {
    let parts = publication.blobs.iter().chain(publication.manifests());
    let mut named = parts.filter(|part| format!("sha256:{}", part.digest) == descriptor["digest"]);
    let part = named.next().unwrap();
    assert_eq!(descriptor["mediaType"], part.media_type);
    assert_eq!(descriptor["size"], part.bytes.len());
    part
}

/// Istio's and Envoy Gateway's rule: the first child for linux/amd64, which is what one without platform counts as.
fn first_for_envoy(index: &Value) -> &Value {
    let fits = |child: &&Value| match child.get("platform") {
        None => true,
        Some(platform) => platform["os"] == "linux" && platform["architecture"] == "amd64",
    };
    index["manifests"].as_array().unwrap().iter().find(fits).unwrap()
}

/// wkg's rule: the first child that names this very platform.
fn first_of_platform<'a>(index: &'a Value, os: &str, architecture: &str) -> Option<&'a Value> {
    let fits = |child: &&Value| {
        let platform = &child["platform"];
        platform["os"] == os && platform["architecture"] == architecture
    };
    index["manifests"].as_array().unwrap().iter().find(fits)
}

#[test]
fn istio_finds_the_module_in_an_image_and_compares_the_digest_that_push_prints() {
    let publication = published();
    let index = json(&publication.index);
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    let image = at(&publication, first_for_envoy(&index));
    assert_eq!(image.digest, publication.compat.digest);

    let manifest = json(image);
    assert_eq!(manifest["annotations"]["module.wasm.image/variant"], "compat");
    let layer = at(&publication, manifest["layers"].as_array().unwrap().last().unwrap());
    assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    let mut plain = Vec::new();
    GzDecoder::new(&layer.bytes[..]).read_to_end(&mut plain).unwrap();
    let mut archive = tar::Archive::new(&plain[..]);
    let mut file = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(file.path().unwrap().file_name().unwrap(), "plugin.wasm");
    let mut found = Vec::new();
    file.read_to_end(&mut found).unwrap();
    assert_eq!(found, MODULE);

    let config = json(at(&publication, &manifest["config"]));
    let plain = format!("sha256:{}", portcullis_vm::Digest::of(&plain));
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([plain]));
}

#[test]
fn wkg_finds_the_wasm_artifact_on_every_platform_that_is_offered() {
    let publication = published();
    let index = json(&publication.index);
    for (os, architecture) in [("linux", "amd64"), ("linux", "arm64"), ("wasip1", "wasm")] {
        let child = first_of_platform(&index, os, architecture).unwrap();
        let artifact = at(&publication, child);
        assert_eq!(artifact.digest, publication.artifact.digest);
        let manifest = json(artifact);
        let config = at(&publication, &manifest["config"]);
        assert_eq!(config.media_type, "application/vnd.wasm.config.v0+json");
        let [layer] = &manifest["layers"].as_array().unwrap()[..] else { panic!("{manifest}") };
        let layer = at(&publication, layer);
        assert_eq!((layer.media_type, &layer.bytes[..]), ("application/wasm", MODULE));
        let config = json(config);
        assert_eq!(config["layerDigests"][0], format!("sha256:{}", layer.digest));
        assert_eq!((&config["architecture"], &config["os"]), (&"wasm".into(), &"wasip1".into()));
    }
    assert_eq!(first_of_platform(&index, "windows", "amd64"), None);
}

#[test]
fn the_same_module_is_published_under_the_same_digests() {
    assert_eq!(published(), published());
    let other = Publication::of(b"\0asm\x01\0\0\0\0\x01\0".as_slice().into()).unwrap();
    for (one, other) in published().manifests().iter().zip(other.manifests()) {
        assert_ne!(one.digest, other.digest, "{}", one.what);
    }
    // Pins of users, without the part that a compressor has a say in.
    let artifact = published().artifact.digest.to_string();
    assert_eq!(artifact, "aeb0651bfcce2e2a7ff35ed1b2d82fbdc7288e6822c6daf81b812860d463c242");
}
