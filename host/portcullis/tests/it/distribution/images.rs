//! Images, written byte by byte: every layout in which modules are found.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use portcullis::fetch::oci::media;
use tar::{Builder, EntryType, Header};

use super::server::{Contents, digest};

pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// A module whose responses carry `x-mark: {letter}`.
pub fn mark(letter: char) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "env" "proxy_add_header_map_value"
            (func $add (param i32 i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "x-mark{letter}")
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            i32.const 2 i32.const 0 i32.const 6 i32.const 6 i32.const 1
            call $add drop
            i32.const 0))"#
    );
    wat::parse_str(text).unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive of these files, whatever their names are.
pub fn tar(files: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, bytes) in files {
        let mut header = Header::new_gnu();
        // The library's own way refuses what hostile archives hold.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn plugin(module: &[u8]) -> Vec<u8> {
    gzip(&tar(&[("plugin.wasm", EntryType::Regular, module)]))
}

/// Adds an image of these layers to `contents`; the manifest's digest.
pub fn image(
    contents: &mut Contents,
    tag: &str,
    (manifest, config): (&str, &str),
    layers: &[(&str, &[u8])],
) -> String {
    let layers = layers.iter().map(|(kind, bytes)| {
        let (digest, size) = (contents.blob(bytes), bytes.len());
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
    });
    let layers = layers.collect::<Vec<_>>().join(",");
    let config = format!(r#"{{"mediaType":"{config}","digest":"{}","size":2}}"#, digest(b"{}"));
    contents.blob(b"{}");
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{manifest}","config":{config},"layers":[{layers}]}}"#
    );
    contents.manifest(tag, manifest, &text)
}

/// The layout that most tools of meshes push.
pub fn compat(contents: &mut Contents, tag: &str, module: &[u8]) -> String {
    let kinds = (media::OCI_MANIFEST, OCI_CONFIG);
    image(contents, tag, kinds, &[(media::OCI_TAR_GZIP, &plugin(module))])
}

/// An index of these manifests: digest, and `os/architecture` or nothing.
pub fn index(contents: &mut Contents, tag: &str, children: &[(&str, &str)]) -> String {
    let child = |(digest, platform): &(&str, &str)| {
        let platform = platform.split_once('/').map_or_else(String::new, |(os, architecture)| {
            format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"}}"#)
        });
        let kind = media::OCI_MANIFEST;
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1{platform}}}"#)
    };
    let children = children.iter().map(child).collect::<Vec<_>>().join(",");
    let kind = media::OCI_INDEX;
    let text = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{children}]}}"#);
    contents.manifest(tag, kind, &text)
}
