//! Signatures in cosign's forms. What `golden/signature` holds is about sha256:0101…, and was made with openssl; `sigstore.*` and
//! `bundle.*` with the Go libraries that cosign is made of, before its version 3 and since.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use portcullis::signature::{Distrust, KeyError, PublicKey, Signature, Trust};
use portcullis_vm::Digest;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

const SIGNED: Digest = Digest([1; 32]);
const OTHER: Digest = Digest([2; 32]);

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/signature");
    fs::read(folder.join(name)).unwrap()
}

fn trust(names: &[&str]) -> Trust {
    let keys = names.iter().flat_map(|name| PublicKey::read(&golden(name)).unwrap()).collect();
    Trust { keys, named: names.join(", ") }
}

fn made(by: &str) -> Signature {
    Signature::Simple { payload: golden("payload.json").into(), base64: golden_text(by) }
}

fn check(keys: &[&str], digests: &[Digest], signatures: &[Signature]) -> Result<(), Distrust> {
    trust(keys).check(digests, signatures)
}

/// A payload of the caller's own, signed by a key of its own.
fn own(payload: &str) -> (Trust, Signature) {
    let key = KeyPair::generate().unwrap();
    let base64 = STANDARD.encode(key.sign(payload.as_bytes()).unwrap());
    let keys = PublicKey::read(key.public_key_pem().as_bytes()).unwrap().into();
    let payload = Bytes::from(payload.to_owned());
    (Trust { keys, named: "own.pub".to_owned() }, Signature::Simple { payload, base64 })
}

#[test]
fn a_signature_by_each_kind_of_key_vouches_for_the_digest_that_it_names() {
    for kind in ["p256", "p384", "rsa", "ed25519"] {
        let key = format!("{kind}.pub");
        let signature = made(&format!("{kind}.sig"));
        assert_eq!(check(&[&key], &[SIGNED], std::slice::from_ref(&signature)), Ok(()), "{kind}");
        let wrong = check(&[&key], &[OTHER], &[signature]);
        let signed = format!("sha256:{SIGNED}");
        assert_eq!(wrong, Err(Distrust::OtherDigest { signed }), "{kind}");
    }
}

#[test]
fn p384_goes_with_either_hash() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let keys = PublicKey::read(key.public_key_pem().as_bytes()).unwrap().into();
    let trust = Trust { keys, named: "own.pub".to_owned() };
    let payload = golden("payload.json");
    let base64 = STANDARD.encode(key.sign(&payload).unwrap());
    let signature = Signature::Simple { payload: payload.into(), base64 };
    assert_eq!(trust.check(&[SIGNED], &[signature]), Ok(()));
}

#[test]
fn what_the_libraries_of_cosign_made_vouches() {
    let bundle = [Signature::Bundle(golden("bundle.json").into())];
    assert_eq!(check(&["bundle.pub"], &[SIGNED], &bundle), Ok(()));
    assert!(matches!(check(&["p256.pub"], &[SIGNED], &bundle), Err(Distrust::OtherKey { .. })));
    let payload = golden("sigstore.json").into();
    let signature = Signature::Simple { payload, base64: golden_text("sigstore.sig") };
    assert_eq!(check(&["sigstore.pub"], &[SIGNED], &[signature]), Ok(()));
}

#[test]
fn one_signature_of_several_will_do_by_one_key_of_several_for_the_index_or_for_its_manifest() {
    let signatures = [made("rsa.sig"), made("p256.sig")];
    assert_eq!(check(&["ed25519.pub", "p256.pub"], &[OTHER, SIGNED], &signatures), Ok(()));
    assert_eq!(check(&["p256.pub"], &[SIGNED, OTHER], &signatures), Ok(()));
}

#[test]
fn without_a_signature_or_with_another_key_nobody_vouches() {
    assert_eq!(check(&["p256.pub"], &[SIGNED], &[]), Err(Distrust::Unsigned));
    let other = check(&["p256.pub", "rsa.pub"], &[SIGNED], &[made("ed25519.sig")]);
    assert_eq!(other, Err(Distrust::OtherKey { named: "p256.pub, rsa.pub".to_owned() }));
    // The reason that comes closest is told, wherever it stands.
    for signatures in [[made("p256.sig"), made("rsa.sig")], [made("rsa.sig"), made("p256.sig")]] {
        let closest = check(&["p256.pub"], &[OTHER], &signatures);
        assert!(matches!(closest, Err(Distrust::OtherDigest { .. })), "{closest:?}");
    }
}

#[test]
fn a_changed_payload_or_signature_is_that_of_nobody() {
    let payload = Bytes::from(golden("payload.json"));
    let mut changed = payload.to_vec();
    *changed.last_mut().unwrap() = b' ';
    let right = golden_text("p256.sig");
    let changed = (Bytes::from(changed), right.clone());
    let cut = right[..40].to_owned();
    let others = [String::new(), "no base64!".to_owned(), cut, golden_text("rsa.sig")];
    let others = others.map(|base64| (payload.clone(), base64));
    for (payload, base64) in others.into_iter().chain([changed]) {
        let found = check(&["p256.pub"], &[SIGNED], &[Signature::Simple { payload, base64 }]);
        assert!(matches!(found, Err(Distrust::OtherKey { .. })), "{found:?}");
    }
}

fn golden_text(name: &str) -> String {
    String::from_utf8(golden(name)).unwrap()
}

#[test]
fn what_is_rightly_signed_has_to_be_a_statement_about_a_module() {
    let (trust, no_json) = own("sha256:0101");
    assert!(matches!(trust.check(&[SIGNED], &[no_json]), Err(Distrust::Statement(_))));
    let text = golden_text("payload.json");
    let (trust, of_gpg) = own(&text.replace("cosign container", "atomic container"));
    let reason = trust.check(&[SIGNED], &[of_gpg]).unwrap_err().to_string();
    assert!(reason.ends_with("its type is \"atomic container image signature\""), "{reason}");
    let (trust, upper) = own(&text.replace("sha256:", "SHA256:"));
    assert!(matches!(trust.check(&[SIGNED], &[upper]), Err(Distrust::OtherDigest { .. })));
    let (trust, right) = own(&text);
    assert_eq!(trust.check(&[SIGNED], &[right]), Ok(()));
}

#[test]
fn a_file_of_keys_is_read_whole_or_not_at_all() {
    let two = [golden("p256.pub"), golden("rsa.pub")].concat();
    assert_eq!(PublicKey::read(&two).unwrap().len(), 2);
    assert_eq!(PublicKey::read(b""), Err(KeyError::None));
    assert_eq!(PublicKey::read(b"-----BEGIN PUBLIC KEY-----\nMFkw"), Err(KeyError::None));
    let private = KeyPair::generate().unwrap().serialize_pem();
    assert_eq!(PublicKey::read(private.as_bytes()), Err(KeyError::None));
    let text = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n";
    assert_eq!(PublicKey::read(text.as_bytes()), Err(KeyError::Malformed));
    let three = [golden("p256.pub"), text.into()].concat();
    assert_eq!(PublicKey::read(&three), Err(KeyError::Malformed));
    let curve = KeyError::Algorithm("curve 1.3.132.0.35".to_owned());
    assert_eq!(PublicKey::read(&golden("p521.pub")), Err(curve));
    let short = KeyError::Algorithm("RSA with 1024 bits".to_owned());
    assert_eq!(PublicKey::read(&golden("rsa1024.pub")), Err(short));
}

/// What cosign writes since version 3.
fn bundle(key: &KeyPair, payload_type: &str, statement: &Value) -> Signature {
    let payload = statement.to_string();
    let (kind, body) = (payload_type.len(), payload.len());
    let message = format!("DSSEv1 {kind} {payload_type} {body} {payload}");
    let sig = STANDARD.encode(key.sign(message.as_bytes()).unwrap());
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "x"}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(&payload),
            "payloadType": payload_type,
            "signatures": [{"sig": sig}],
        },
    });
    Signature::Bundle(bundle.to_string().into())
}

#[test]
fn a_bundle_vouches_for_its_subjects_and_an_attestation_for_nothing() {
    let key = KeyPair::generate().unwrap();
    let keys = PublicKey::read(key.public_key_pem().as_bytes()).unwrap().into();
    let trust = Trust { keys, named: "own.pub".to_owned() };
    let statement = |predicate: &str| {
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": SIGNED.to_string()}, "annotations": {}}],
            "predicateType": predicate,
            "predicate": {},
        })
    };
    let (in_toto, vouches) =
        ("application/vnd.in-toto+json", "https://sigstore.dev/cosign/sign/v1");
    let right = bundle(&key, in_toto, &statement(vouches));
    assert_eq!(trust.check(&[OTHER, SIGNED], std::slice::from_ref(&right)), Ok(()));
    let signed = format!("sha256:{SIGNED}");
    let wrong = trust.check(&[OTHER], std::slice::from_ref(&right));
    assert_eq!(wrong, Err(Distrust::OtherDigest { signed }));
    let other_key = trust_of_nobody(&right);
    assert!(matches!(other_key, Err(Distrust::OtherKey { .. })), "{other_key:?}");
    for other in [
        bundle(&key, in_toto, &statement("https://slsa.dev/provenance/v1")),
        bundle(&key, "text/plain", &statement(vouches)),
        bundle(&key, in_toto, &json!({"subject": []})),
    ] {
        let found = trust.check(&[SIGNED], &[other]);
        assert!(matches!(found, Err(Distrust::Statement(_))), "{found:?}");
    }
    let broken = Signature::Bundle("{\"dsseEnvelope\": {}}".into());
    let found = trust.check(&[SIGNED], &[broken]);
    assert!(matches!(found, Err(Distrust::OtherKey { .. })), "{found:?}");
}

#[test]
fn of_any_number_of_signatures_in_one_place_few_are_looked_at() {
    let (_, nobody) = own("x");
    let Signature::Simple { base64: junk, .. } = nobody else { panic!("it is one") };
    let (bytes, right) = (golden("payload.json"), golden_text("p256.sig"));
    let after = |before: usize| format!("{}{right}", format!("{junk}\n").repeat(before));
    assert_eq!(trust(&["p256.pub"]).check_bytes(&bytes, &after(15)), Ok(()));
    assert!(trust(&["p256.pub"]).check_bytes(&bytes, &after(16)).is_err());
    let payload = Bytes::from(bytes);
    let lines = Signature::Simple { payload, base64: after(1) };
    let found = check(&["p256.pub"], &[SIGNED], &[lines]);
    assert!(found.is_err(), "an annotation holds one");
    let key = KeyPair::generate().unwrap();
    let keys = PublicKey::read(key.public_key_pem().as_bytes()).unwrap().into();
    let trust = Trust { keys, named: "own.pub".to_owned() };
    let statement = json!({
        "subject": [{"digest": {"sha256": SIGNED.to_string()}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
    });
    let Signature::Bundle(right) = bundle(&key, "application/vnd.in-toto+json", &statement) else {
        panic!("it is one")
    };
    let after = |before: usize| {
        let mut bundle: Value = serde_json::from_slice(&right).unwrap();
        let list = bundle["dsseEnvelope"]["signatures"].as_array_mut().unwrap();
        list.splice(0..0, vec![json!({"sig": junk}); before]);
        Signature::Bundle(bundle.to_string().into())
    };
    assert_eq!(trust.check(&[SIGNED], &[after(15)]), Ok(()));
    assert!(trust.check(&[SIGNED], &[after(16)]).is_err());
}

fn trust_of_nobody(signature: &Signature) -> Result<(), Distrust> {
    check(&["p256.pub", "ed25519.pub"], &[SIGNED], std::slice::from_ref(signature))
}
