//! Whose signature a module needs: what is not signed by whom it should be is refused, with the reason, and what served
//! before serves on.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::diagnose::{Code, Problem, Severity};
use portcullis::fetch::Publication;
use portcullis_vm::Digest;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

use super::registry::Registry;
use super::stamp;
use crate::program::{House, PROXY, ROUTE, backend, eventually, fetch, replace, upstream};

/// Somebody with a key.
struct Signer(KeyPair);

impl Signer {
    fn new() -> Signer {
        Signer(KeyPair::generate().unwrap())
    }

    fn key(&self) -> String {
        self.0.public_key_pem()
    }

    /// Signs `signed`, and puts the signature where that of `under` belongs.
    fn sign_as(&self, registry: &Registry, signed: Digest, under: Digest) {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": registry.named("acme/stamp")},
                "image": {"docker-manifest-digest": format!("sha256:{signed}")},
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = payload.to_string().into_bytes();
        let base64 = STANDARD.encode(self.0.sign(&payload).unwrap());
        let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
        let mut layer = registry.put_blob("acme/stamp", kind, &payload);
        layer["annotations"] = json!({"dev.cosignproject.cosign/signature": base64});
        let kind = "application/vnd.oci.image.config.v1+json";
        let config = registry.put_blob("acme/stamp", kind, b"{}");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        });
        registry.put_manifest("acme/stamp", &format!("sha256-{under}.sig"), &manifest);
    }

    fn sign(&self, registry: &Registry, signed: Digest) {
        self.sign_as(registry, signed, signed);
    }
}

/// Puts a module there by hand, as `push` would; what it is made of.
fn publish(registry: &Registry, tag: &str, module: &[u8]) -> Publication {
    let publication = Publication::of(module.to_vec().into()).unwrap();
    for blob in &publication.blobs {
        registry.put_blob("acme/stamp", blob.media_type, &blob.bytes);
    }
    for part in publication.manifests() {
        let digest = format!("sha256:{}", part.digest);
        let version = if part.digest == publication.index.digest { tag } else { &digest };
        registry.put_bytes("acme/stamp", version, part.media_type, &part.bytes);
    }
    publication
}

fn filter(registry: &Registry, version: &str) -> String {
    let url = format!("oci://{}{version}", registry.named("acme/stamp"));
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: stamp}}\n\
         spec: {{url: \"{url}\"}}\n"
    )
}

/// A Proxy that wants everything signed with a key of `cosign.pub`.
fn proxy(registry: &Registry) -> String {
    format!(
        "{PROXY}  registries: [{{host: \"{}\", plainHttp: true}}]\n  \
         verification: {{publicKeyFiles: [cosign.pub]}}\n",
        registry.address
    )
}

/// The program with a filter that `signer` has signed, which it runs.
fn house(registry: &Registry, signer: &Signer) -> House {
    let app = upstream("app");
    let house = House::new(&[
        ("cosign.pub", signer.key().as_bytes()),
        ("proxy.yaml", proxy(registry).as_bytes()),
        ("app.yaml", backend(app).as_bytes()),
        ("route.yaml", ROUTE.as_bytes()),
        ("stamp.yaml", filter(registry, ":a").as_bytes()),
    ]);
    assert_eq!(version(&house), 'a');
    house
}

/// Which module answers.
fn version(house: &House) -> char {
    let (head, _) = fetch(house.address(), "/");
    head.split_once("x-version: ").unwrap().1.chars().next().unwrap()
}

/// What is refused; what is on its way is not yet.
fn problem(house: &House) -> Option<Problem> {
    house.app.board().problems().into_iter().find(|problem| problem.code != Code::P0413)
}

/// Changes a file, waits until that is refused, and finds the old module at work. The refusal's code and cause.
fn refused(house: &House, name: &str, text: &str) -> (String, String) {
    let before = problem(house);
    replace(house.folder.path(), name, text.as_bytes());
    eventually(|| problem(house).is_some_and(|now| before.as_ref() != Some(&now)));
    assert_eq!(version(house), 'a');
    let problem = problem(house).unwrap();
    (problem.code.to_string(), problem.cause.unwrap_or_default())
}

#[test]
fn a_module_runs_whose_index_or_manifest_the_right_key_has_signed() {
    let Some(registry) = Registry::plain() else { return };
    let signer = Signer::new();
    let (a, b) = (publish(&registry, "a", &stamp('a')), publish(&registry, "b", &stamp('b')));
    signer.sign(&registry, a.index.digest);
    signer.sign(&registry, b.compat.digest);
    let house = house(&registry, &signer);
    house.edit("stamp.yaml", filter(&registry, ":b").as_bytes());
    assert_eq!(version(&house), 'b');
    house.edit("stamp.yaml", filter(&registry, &format!("@sha256:{}", a.index.digest)).as_bytes());
    assert_eq!(version(&house), 'a');
}

#[test]
fn unsigned_wrongly_signed_and_replaced_modules_are_refused_with_the_reason() {
    let Some(registry) = Registry::plain() else { return };
    let (signer, stranger) = (Signer::new(), Signer::new());
    let a = publish(&registry, "a", &stamp('a')).index.digest;
    signer.sign(&registry, a);
    let house = house(&registry, &signer);

    let b = publish(&registry, "b", &stamp('b')).index.digest;
    let unsigned = refused(&house, "stamp.yaml", &filter(&registry, ":b"));
    assert_eq!(unsigned, ("P0213".to_owned(), "it is not signed".to_owned()));

    stranger.sign(&registry, publish(&registry, "c", &stamp('c')).index.digest);
    let other_key = refused(&house, "stamp.yaml", &filter(&registry, ":c"));
    let cause = "it is signed, but not with a key of cosign.pub";
    assert_eq!(other_key, ("P0213".to_owned(), cause.to_owned()));

    let d = publish(&registry, "d", &stamp('d')).index.digest;
    signer.sign_as(&registry, a, d);
    let other_digest = refused(&house, "stamp.yaml", &filter(&registry, ":d"));
    let cause = format!("its signature is right, but it is that of sha256:{a}");
    assert_eq!(other_digest, ("P0213".to_owned(), cause));

    let e = publish(&registry, "e", &stamp('e'));
    signer.sign(&registry, e.index.digest);
    let layer = e.blobs.iter().find(|blob| blob.media_type.ends_with("tar+gzip")).unwrap();
    let place = registry.blob(layer.digest);
    let mut bytes = fs::read(&place).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&place, bytes).unwrap();
    let (code, _) = refused(&house, "stamp.yaml", &filter(&registry, ":e"));
    assert_eq!(code, "P0408");

    signer.sign(&registry, b);
    house.edit("stamp.yaml", filter(&registry, &format!("@sha256:{b}")).as_bytes());
    assert_eq!(version(&house), 'b');
}

#[test]
fn a_replaced_key_file_takes_effect() {
    let Some(registry) = Registry::plain() else { return };
    let (old, new) = (Signer::new(), Signer::new());
    old.sign(&registry, publish(&registry, "a", &stamp('a')).index.digest);
    new.sign(&registry, publish(&registry, "b", &stamp('b')).index.digest);
    let house = house(&registry, &old);
    let (code, _) = refused(&house, "stamp.yaml", &filter(&registry, ":b"));
    assert_eq!(code, "P0213");
    house.edit("cosign.pub", new.key().as_bytes());
    assert_eq!(version(&house), 'b');

    // What runs is not signed with that key: the old key stays, until there is a module that is.
    let before: Value = house.status();
    replace(house.folder.path(), "cosign.pub", old.key().as_bytes());
    eventually(|| problem(&house).is_some());
    assert_eq!(problem(&house).unwrap().code, Code::P0213);
    assert_eq!((version(&house), &house.status()["generation"]), ('b', &before["generation"]));
    house.edit("stamp.yaml", filter(&registry, ":a").as_bytes());
    assert_eq!(version(&house), 'a');
}

/// The program on a module in a file, `own.wasm`, under a Proxy that wants it signed by `operator`. `signatures`: beside it.
fn house_of_files(operator: &Signer, author: &Signer, signatures: &[&str]) -> House {
    let proxy = format!("{PROXY}  verification: {{publicKeyFiles: [operator.pub]}}\n");
    House::new(&[
        ("operator.pub", operator.key().as_bytes()),
        ("author.pub", author.key().as_bytes()),
        ("proxy.yaml", proxy.as_bytes()),
        ("app.yaml", backend(upstream("app")).as_bytes()),
        ("route.yaml", ROUTE.as_bytes()),
        ("own.wasm", &stamp('a')),
        ("own.wasm.sig", signatures.join("\n").as_bytes()),
        ("stamp.yaml", own_filter("").as_bytes()),
    ])
}

fn own_filter(more: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: stamp}}\n\
         spec: {{url: \"file://own.wasm\"{more}}}\n"
    )
}

impl Signer {
    fn sign_file(&self, module: &[u8]) -> String {
        STANDARD.encode(self.0.sign(module).unwrap())
    }
}

#[test]
fn a_module_in_a_file_is_signed_by_the_file_beside_it() {
    let (operator, author) = (Signer::new(), Signer::new());
    let house = house_of_files(&operator, &author, &[&operator.sign_file(&stamp('a'))]);
    assert_eq!(version(&house), 'a');
    assert_eq!(house.spoil("own.wasm", &stamp('b')), "P0213");
    assert_eq!(version(&house), 'a');
    house.edit("own.wasm.sig", operator.sign_file(&stamp('b')).as_bytes());
    assert_eq!(version(&house), 'b');
    fs::remove_file(house.folder.path().join("own.wasm.sig")).unwrap();
    eventually(|| problem(&house).is_some());
    let cause = problem(&house).unwrap().cause;
    assert_eq!((version(&house), cause.as_deref()), ('b', Some("it is not signed")));
}

#[test]
fn a_filter_asks_for_another_signature_and_lifts_nothing() {
    let (operator, author) = (Signer::new(), Signer::new());
    let by_operator = operator.sign_file(&stamp('a'));
    let by_author = author.sign_file(&stamp('a'));
    let house = house_of_files(&operator, &author, &[&by_operator]);
    let keys =
        |more: &str| own_filter(&format!(", verification: {{publicKeyFiles: [author.pub]{more}}}"));
    let (code, cause) = refused(&house, "stamp.yaml", &keys(""));
    assert_eq!((code.as_str(), cause.contains("author.pub")), ("P0213", true));

    house.edit("stamp.yaml", keys(", required: false").as_bytes());
    let warned = |one: Problem| one.code == Code::P0213 && one.severity == Severity::Warning;
    eventually(|| problem(&house).is_some_and(warned));
    let both = format!("{by_author}\n{by_operator}\n");
    house.edit("own.wasm.sig", both.as_bytes());
    eventually(|| problem(&house).is_none());
    house.edit("stamp.yaml", keys("").as_bytes());

    let (code, cause) = refused(&house, "own.wasm.sig", &by_author);
    assert_eq!((code.as_str(), cause.contains("operator.pub")), ("P0213", true));
    let (code, cause) = refused(&house, "stamp.yaml", &keys(", required: false"));
    assert_eq!((code.as_str(), cause.contains("operator.pub")), ("P0213", true));
}
