//! Every layout in the wild leads to the same module, and pins match what Istio would compare.

use portcullis::fetch::oci::media;
use portcullis_vm::Digest;
use tar::EntryType;

use super::images::{
    DOCKER_CONFIG, OCI_CONFIG, compat, gzip, image as add, index, mark, plugin, tar,
};
use super::server::{Answer, Contents, Server, digest};
use super::{bring, image, order, refused};
use crate::distribution::named;

const MODULE_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";
const CNCF_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM_TO_OCI_CONFIG: &str = "application/vnd.wasm.config.v1+json";

fn serving(contents: Contents) -> Server {
    Server::start(move |request| contents.answer(request))
}

#[test]
fn every_layout_leads_to_its_module() {
    let (module, mut contents) = (mark('a'), Contents::default());
    let packed = plugin(&module);
    let deep = gzip(&tar(&[
        ("./", EntryType::Directory, b""),
        ("runtime-config.json", EntryType::Regular, b"{}"),
        ("app/filters/plugin.wasm", EntryType::Regular, &module),
    ]));
    let (docker, oci) =
        ((media::DOCKER_MANIFEST, DOCKER_CONFIG), (media::OCI_MANIFEST, OCI_CONFIG));
    let of = |config| (media::OCI_MANIFEST, config);
    add(&mut contents, "docker", docker, &[(media::DOCKER_TAR_GZIP, &packed)]);
    add(&mut contents, "oci", oci, &[(media::OCI_TAR_GZIP, &packed)]);
    add(&mut contents, "deep", oci, &[(media::OCI_TAR_GZIP, &deep)]);
    let base = tar(&[("etc/hosts", EntryType::Regular, b"x")]);
    let layers = [(media::OCI_TAR, base.as_slice()), (media::OCI_TAR_GZIP, &packed)];
    add(&mut contents, "built", oci, &layers);
    let solo = [(MODULE_CONFIG, b"{}".as_slice()), (media::MODULE_WASM, &module)];
    add(&mut contents, "solo", oci, &solo);
    add(&mut contents, "cncf", of(CNCF_CONFIG), &[(media::WASM, &module)]);
    add(&mut contents, "wasm-to-oci", of(WASM_TO_OCI_CONFIG), &[(media::WASM_TO_OCI, &module)]);
    let unknown = "application/vnd.acme.filter";
    add(&mut contents, "raw", of(unknown), &[(unknown, &module)]);
    add(&mut contents, "zipped", of(unknown), &[(unknown, &gzip(&module))]);
    add(&mut contents, "unsaid", of(unknown), &[(unknown, &packed)]);
    let server = serving(contents);
    for tag in
        ["docker", "oci", "deep", "built", "solo", "cncf", "wasm-to-oci", "raw", "zipped", "unsaid"]
    {
        let brought = bring(&image(&server, &format!("acme/mark:{tag}")));
        assert_eq!(brought.unwrap().bytes, module, "{tag}");
    }
}

#[test]
fn an_index_leads_to_its_first_manifest_without_a_platform_and_either_digest_pins_it() {
    let (module, mut contents) = (mark('a'), Contents::default());
    let mesh = compat(&mut contents, "", &module);
    let layers = [(media::WASM, b"\0asm another".as_slice())];
    let cncf = add(&mut contents, "", (media::OCI_MANIFEST, CNCF_CONFIG), &layers);
    let children = [(cncf.as_str(), "linux/amd64"), (&mesh, ""), (&cncf, "wasip1/wasm")];
    let whole = index(&mut contents, "1.0", &children);
    let server = serving(contents);
    let brought = bring(&image(&server, "acme/mark:1.0")).unwrap();
    assert_eq!(brought.bytes, module);
    let pinned = format!("oci://{}/acme/mark:1.0@{whole}", server.address);
    assert_eq!(brought.delivery.pinned, pinned);
    for pin in [&whole, &mesh] {
        let by_url = image(&server, &format!("acme/mark@{pin}"));
        assert_eq!(bring(&by_url).unwrap().bytes, module);
        let digest = portcullis::fetch::oci::sha256(pin);
        let by_field = super::Order { sha256: digest, ..image(&server, "acme/mark:other") };
        assert_eq!(bring(&by_field).unwrap().bytes, module, "whatever the tag says now");
    }
}

#[test]
fn an_index_of_platforms_leads_to_wasm_before_machines() {
    let (module, mut contents) = (mark('w'), Contents::default());
    let kinds = (media::OCI_MANIFEST, CNCF_CONFIG);
    let wasm = add(&mut contents, "", kinds, &[(media::WASM, &module)]);
    let linux = compat(&mut contents, "", &mark('l'));
    index(&mut contents, "both", &[(&linux, "linux/amd64"), (&wasm, "wasip1/wasm")]);
    index(&mut contents, "machines", &[(&wasm, "windows/amd64"), (&linux, "linux/amd64")]);
    index(&mut contents, "none", &[(&wasm, "windows/amd64")]);
    let server = serving(contents);
    assert_eq!(bring(&image(&server, "a/b:both")).unwrap().bytes, module);
    assert_eq!(bring(&image(&server, "a/b:machines")).unwrap().bytes, mark('l'));
    assert_eq!(refused(&image(&server, "a/b:none")).0, "P0410");
}

#[test]
fn a_server_that_is_no_registry_gives_plain_packed_and_archived_modules() {
    let module = mark('a');
    let archive = gzip(&tar(&[("filter.wasm", EntryType::Regular, &module)]));
    let bodies = [("/plain", module.clone()), ("/packed", gzip(&module)), ("/archive", archive)];
    let server = Server::start(move |request| {
        let found = bodies.iter().find(|(path, _)| request.path.starts_with(path));
        found.map_or_else(|| Answer::new(404, ""), |(_, body)| Answer::new(200, body.clone()))
    });
    let at = |path: &str| order(&format!("http://{}{path}", server.address), &[named(&server)]);
    for path in ["/plain?token=abc", "/packed", "/archive"] {
        assert_eq!(bring(&at(path)).unwrap().bytes, mark('a'), "{path}");
    }
    let pinned = |digest| super::Order { sha256: Some(digest), ..at("/packed") };
    assert!(bring(&pinned(Digest::of(&mark('a')))).is_ok());
    let (code, text) = refused(&pinned(Digest::of(b"another")));
    assert_eq!(code, "P0408");
    assert!(text.contains(&digest(&mark('a'))), "{text}");
    assert_eq!(refused(&at("/absent?token=abc")).0, "P0406");
    assert!(!refused(&at("/absent?token=abc")).1.contains("abc"), "a query is nobody's business");
}
