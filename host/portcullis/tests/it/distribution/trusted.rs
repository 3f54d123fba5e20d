//! Signatures, from registries that change their mind, go away, or keep them in the newer form.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::fetch::{Order, Publication};
use portcullis::signature::{PublicKey, Trust};
use portcullis::spec::filter::PullPolicy;
use portcullis_vm::Digest;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

use super::server::{Answer, Body, Contents, Request, Server};
use super::{bring, downloads, image, refused};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

const ONE: &[u8] = b"\0asm\x01\0\0\0";
const OTHER_DIGEST: Digest = Digest([7; 32]);
const OTHER: &[u8] = b"\0asm\x01\0\0\0\0\x01\0";

fn trust(keys: &[&KeyPair]) -> Vec<Trust> {
    let group = |key: &&KeyPair| Trust {
        keys: PublicKey::read(key.public_key_pem().as_bytes()).unwrap().into(),
        named: "cosign.pub".to_owned(),
    };
    keys.iter().map(group).collect()
}

fn publish(contents: &mut Contents, tag: &str, module: &'static [u8]) -> Publication {
    let publication = Publication::of(module.into()).unwrap();
    for blob in &publication.blobs {
        contents.blob(&blob.bytes);
    }
    for part in publication.manifests() {
        let tag = if part.digest == publication.index.digest { tag } else { "" };
        contents.manifest(tag, part.media_type, str::from_utf8(&part.bytes).unwrap());
    }
    publication
}

/// An image with one layer that holds `layer`.
fn holding(contents: &mut Contents, kind: &str, layer: &[u8], annotation: &str) -> String {
    let (config, digest) = (contents.blob(b"{}"), contents.blob(layer));
    let config = json!({"mediaType": "application/json", "digest": config, "size": 2});
    let annotations = json!({"dev.cosignproject.cosign/signature": annotation});
    let layer = json!({"mediaType": kind, "digest": digest, "size": layer.len(), "annotations": annotations});
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]})
        .to_string()
}

/// As cosign did before version 3.
fn sign(contents: &mut Contents, key: &KeyPair, signed: Digest) {
    let payload = json!({"critical": {
        "image": {"docker-manifest-digest": format!("sha256:{signed}")},
        "type": "cosign container image signature",
    }});
    let payload = payload.to_string().into_bytes();
    let signature = STANDARD.encode(key.sign(&payload).unwrap());
    let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
    let manifest = holding(contents, kind, &payload, &signature);
    contents.manifest(&format!("sha256-{signed}.sig"), MANIFEST, &manifest);
}

/// As cosign does since then; the list of referrers, as JSON.
fn sign_with_bundle(contents: &mut Contents, key: &KeyPair, signed: Digest) -> String {
    let (kind, statement) = (
        "application/vnd.in-toto+json",
        json!({
            "subject": [{"digest": {"sha256": signed.to_string()}}],
            "predicateType": "https://sigstore.dev/cosign/sign/v1",
        }),
    );
    let statement = statement.to_string();
    let message = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
    let signature = STANDARD.encode(key.sign(message.as_bytes()).unwrap());
    let bundle = json!({"dsseEnvelope": {
        "payload": STANDARD.encode(statement),
        "payloadType": kind,
        "signatures": [{"sig": signature}],
    }});
    let manifest = holding(contents, BUNDLE, bundle.to_string().as_bytes(), "");
    let digest = contents.manifest("", MANIFEST, &manifest);
    let referrer = json!({"mediaType": MANIFEST, "digest": digest, "size": manifest.len()});
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [referrer]}).to_string()
}

fn order(server: &Server, tag: &str, keys: &[&KeyPair]) -> Order {
    Order { trust: trust(keys), ..image(server, &format!("acme/mark:{tag}")) }
}

#[test]
fn a_tag_that_moves_while_the_signature_is_verified_changes_nothing() {
    let key = KeyPair::generate().unwrap();
    let mut before = Contents::default();
    let signed = publish(&mut before, "1", ONE).index.digest;
    sign(&mut before, &key, signed);
    let mut after = before.clone();
    publish(&mut after, "1", OTHER);
    let moved = AtomicBool::new(false);
    let server = Server::start(move |request| {
        if request.path.ends_with(".sig") {
            moved.store(true, Ordering::SeqCst);
        }
        if moved.load(Ordering::SeqCst) { after.answer(request) } else { before.answer(request) }
    });
    let brought = bring(&order(&server, "1", &[&key])).unwrap();
    assert_eq!((brought.delivery.digest, &brought.bytes[..]), (signed, ONE));

    let (code, text) = refused(&order(&server, "1", &[&key]));
    assert_eq!(code, "P0213");
    assert!(text.contains("it is not signed"), "{text}");
}

#[test]
fn nothing_of_a_module_is_fetched_before_somebody_has_vouched_for_it() {
    let mut contents = Contents::default();
    publish(&mut contents, "1", ONE);
    let server = Server::start(move |request| contents.answer(request));
    refused(&order(&server, "1", &[&KeyPair::generate().unwrap()]));
    let asked = server.asked();
    assert!(!asked.iter().any(|one| one.contains("/blobs/")), "{asked:?}");
}

#[test]
fn a_bundle_is_found_by_the_list_of_referrers_or_by_its_tag() {
    let key = KeyPair::generate().unwrap();
    let mut contents = Contents::default();
    let signed = publish(&mut contents, "1", ONE).index.digest;
    let list = sign_with_bundle(&mut contents, &key, signed);
    let old = contents.clone();
    let newer = with_referrers(old, signed, &serde_json::from_str(&list).unwrap());
    assert_eq!(&bring(&order(&newer, "1", &[&key])).unwrap().bytes[..], ONE);

    let list = sign_with_bundle(&mut contents, &key, signed);
    contents.manifest(&format!("sha256-{signed}"), INDEX, &list);
    let older = Server::start(move |request| contents.answer(request));
    assert_eq!(&bring(&order(&older, "1", &[&key])).unwrap().bytes[..], ONE);
    let stranger = KeyPair::generate().unwrap();
    assert_eq!(refused(&order(&older, "1", &[&stranger])).0, "P0213");
}

#[test]
fn every_group_of_keys_has_to_vouch() {
    let (operator, author) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut contents = Contents::default();
    let publication = publish(&mut contents, "1", ONE);
    sign(&mut contents, &operator, publication.index.digest);
    let half = contents.clone();
    sign(&mut contents, &author, publication.compat.digest);
    let half = Server::start(move |request| half.answer(request));
    let whole = Server::start(move |request| contents.answer(request));
    assert_eq!(refused(&order(&half, "1", &[&operator, &author])).0, "P0213");
    assert_eq!(&bring(&order(&whole, "1", &[&operator, &author])).unwrap().bytes[..], ONE);
}

#[test]
fn what_was_vouched_for_once_is_when_the_registry_is_gone_and_by_nobody_else() {
    let (key, stranger) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut contents = Contents::default();
    let signed = publish(&mut contents, "1", ONE).index.digest;
    sign(&mut contents, &key, signed);
    let gone = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let gone = gone.clone();
        move |request| match gone.load(Ordering::SeqCst) {
            true => Answer::new(500, ""),
            false => contents.answer(request),
        }
    });
    let (_folder, downloads) = downloads();
    order(&server, "1", &[&key]).bring(&downloads).unwrap();
    gone.store(true, Ordering::SeqCst);
    assert_eq!(&order(&server, "1", &[&key]).bring(&downloads).unwrap().bytes[..], ONE);
    let other = order(&server, "1", &[&stranger]).bring(&downloads).unwrap_err();
    assert_eq!(other.code().as_str(), "P0404");
    let always = Order { policy: PullPolicy::Always, ..order(&server, "1", &[&key]) };
    assert_eq!(always.bring(&downloads).unwrap_err().code().as_str(), "P0404");
}

#[test]
fn a_module_from_a_server_that_is_no_registry_has_no_place_for_a_signature() {
    let server = Server::start(|_| Answer::new(200, ONE));
    let url = format!("http://{}/mark.wasm", server.address);
    let key = KeyPair::generate().unwrap();
    let plain = super::order(&url, &[super::named(&server)]);
    bring(&plain).unwrap();
    let (code, text) = refused(&Order { trust: trust(&[&key]), ..plain });
    assert_eq!(code, "P0213");
    assert!(text.contains("modules from there carry no signature"), "{text}");
    assert!(text.contains("required: false"), "{text}");
}

/// A registry that knows what refers to `signed`.
fn with_referrers(contents: Contents, signed: Digest, list: &Value) -> Server {
    let list = list.to_string();
    Server::start(move |request| match request.path.contains("/referrers/") {
        true if request.path.ends_with(&signed.to_string()) => {
            Answer::new(200, list.clone()).with("content-type", INDEX)
        }
        true => Answer::new(404, "{}"),
        false => contents.answer(request),
    })
}

#[test]
fn what_else_refers_to_an_image_does_not_hide_its_signature() {
    let key = KeyPair::generate().unwrap();
    let mut contents = Contents::default();
    let signed = publish(&mut contents, "1", ONE).index.digest;
    let mut list: Value =
        serde_json::from_str(&sign_with_bundle(&mut contents, &key, signed)).unwrap();
    let signature = list["manifests"][0].take();
    let huge = holding(&mut contents, BUNDLE, &vec![b' '; 1 << 20], "");
    let huge = contents.manifest("", MANIFEST, &huge);
    let provenance = json!({"dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1"});
    let attestation = json!({"digest": huge, "artifactType": BUNDLE, "annotations": provenance});
    let inventory = json!({"digest": huge, "artifactType": "application/spdx+json"});
    let absent = json!({"digest": format!("sha256:{OTHER_DIGEST}"), "artifactType": BUNDLE});
    let unsaid = json!({"digest": huge, "artifactType": BUNDLE});
    let escaping = json!({"digest": "../../../_catalog", "artifactType": BUNDLE});
    let mut others = vec![attestation; 40];
    others.extend(vec![inventory; 40]);
    others.extend([absent, unsaid, escaping, signature]);
    list["manifests"] = others.into();
    contents.manifest(&format!("sha256-{signed}.sig"), "text/html", "<html>");
    let server = with_referrers(contents, signed, &list);
    assert_eq!(&bring(&order(&server, "1", &[&key])).unwrap().bytes[..], ONE);
    let asked = server.asked();
    let fetched = asked.iter().filter(|one| one.ends_with(&huge)).count();
    assert_eq!(fetched, 1, "what says that it is no signature is not fetched");
    assert!(!asked.iter().any(|one| one.contains("_catalog")), "{asked:?}");
}

#[test]
fn of_many_signatures_the_newest_count_and_one_without_its_payload_does_not() {
    let (old, new) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut contents = Contents::default();
    let signed = publish(&mut contents, "1", ONE).index.digest;
    let mut layers = |key: &KeyPair| -> Value {
        let mut own = Contents::default();
        sign(&mut own, key, signed);
        sign(&mut contents, key, signed);
        let name = format!("/v2/x/manifests/sha256-{signed}.sig");
        let answer = own.answer(&Request { path: name, ..Request::default() });
        let Body::Whole(text) = answer.body else { panic!("it is there") };
        serde_json::from_slice::<Value>(&text).unwrap()["layers"][0].take()
    };
    let (before, after) = (layers(&old), layers(&new));
    let mut gone = after.clone();
    gone["digest"] = format!("sha256:{OTHER_DIGEST}").into();
    let all: Vec<Value> = [vec![before; 40], vec![after, gone]].concat();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": all}).to_string();
    contents.manifest(&format!("sha256-{signed}.sig"), MANIFEST, &manifest);
    let server = Server::start(move |request| contents.answer(request));
    assert_eq!(&bring(&order(&server, "1", &[&new])).unwrap().bytes[..], ONE);
}

#[test]
fn a_registry_in_trouble_has_not_said_that_nothing_is_signed() {
    let mut contents = Contents::default();
    publish(&mut contents, "1", ONE);
    let server = Server::start(move |request| match request.path.contains("/referrers/") {
        true => Answer::new(503, "").with("retry-after", "600"),
        false => contents.answer(request),
    });
    let (code, text) = refused(&order(&server, "1", &[&KeyPair::generate().unwrap()]));
    assert_eq!(code, "P0404", "{text}");
}

#[test]
fn a_registry_with_any_number_of_bundles_is_asked_for_few() {
    let mut contents = Contents::default();
    let signed = publish(&mut contents, "1", ONE).index.digest;
    let big = vec![b' '; 200 << 10];
    let bundle = contents.blob(&big);
    let layer = json!({"mediaType": BUNDLE, "digest": bundle, "size": big.len()});
    let referrer = |number: usize| {
        let (layers, config) = (vec![layer.clone(); 40], json!({"digest": bundle}));
        let manifest =
            json!({"mediaType": MANIFEST, "config": config, "layers": layers, "number": number});
        json!({"digest": contents.manifest("", MANIFEST, &manifest.to_string())})
    };
    let list = json!({"manifests": (0..40).map(referrer).collect::<Vec<_>>()});
    let server = with_referrers(contents, signed, &list);
    assert_eq!(refused(&order(&server, "1", &[&KeyPair::generate().unwrap()])).0, "P0213");
    let blobs = server.asked().iter().filter(|asked| asked.contains("/blobs/")).count();
    assert_eq!(blobs, 32);
}

#[test]
fn a_list_of_referrers_is_read_page_by_page_and_not_for_ever() {
    let key = KeyPair::generate().unwrap();
    let mut contents = Contents::default();
    let signed = publish(&mut contents, "1", ONE).index.digest;
    let last = sign_with_bundle(&mut contents, &key, signed);
    let serving = move |pages: usize| {
        let (contents, last) = (contents.clone(), last.clone());
        Server::start(move |request| {
            let Some((_, page)) = request.path.split_once("/referrers/") else {
                return contents.answer(request);
            };
            let page = page.split_once("page=").map_or(1, |(_, page)| page.parse().unwrap());
            match page == pages {
                true => Answer::new(200, last.clone()),
                false => Answer::new(200, r#"{"manifests": []}"#).with(
                    "link",
                    format!("</v2/acme/mark/referrers/x?page={}>; rel=\"next\"", page + 1),
                ),
            }
        })
    };
    assert_eq!(&bring(&order(&serving(3), "1", &[&key])).unwrap().bytes[..], ONE);
    let endless = serving(1000);
    assert_eq!(refused(&order(&endless, "1", &[&key])).0, "P0213");
    let asked = endless.asked().iter().filter(|one| one.contains("page=")).count();
    assert!(asked < 20, "{asked}");
}
