//! `push` and `pull`, and skopeo between them.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::registry::{PASSWORD, Registry, USER, skopeo};
use super::{portcullis, said, stamp};

const PLAIN: &str = "--plain-http";

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("canary.wasm"), stamp('a')).unwrap();
    folder
}

/// The pinned index and the pin for Istio, the last two lines of what `push` says.
fn push(folder: &Path, reference: &str, more: &[&str]) -> (String, String) {
    let arguments = [&["push", reference, "canary.wasm"], more].concat();
    let (status, stdout, stderr) = said(&portcullis(folder, &arguments));
    assert_eq!(status, Some(0), "{stderr}");
    let mut lines = stdout.lines().rev();
    let index = lines.next().unwrap().to_owned();
    (index, lines.next().unwrap().strip_prefix("istio: ").unwrap().to_owned())
}

fn pull(folder: &Path, reference: &str, more: &[&str]) -> Vec<u8> {
    let arguments = [&["pull", reference, "--output", "pulled.wasm"], more].concat();
    let (status, _, stderr) = said(&portcullis(folder, &arguments));
    assert_eq!(status, Some(0), "{stderr}");
    fs::read(folder.join("pulled.wasm")).unwrap()
}

/// The manifest or index under a reference, as skopeo reads it.
fn raw(reference: &str) -> Value {
    let image = format!("docker://{reference}");
    let output = skopeo(&["inspect", "--raw", "--tls-verify=false", &image]).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_we_push_is_copied_by_skopeo_and_comes_back_the_same() {
    let Some(registry) = Registry::plain() else { return };
    let folder = folder();
    let (index, istio) = push(folder.path(), &registry.named("acme/canary:1.2"), &[PLAIN]);
    if skopeo(&["--version"]).is_none() {
        return;
    }
    let manifests = raw(&registry.named("acme/canary:1.2"))["manifests"].clone();
    assert_eq!(manifests.as_array().unwrap().len(), 4);
    let pinned = format!("acme/canary@{}", manifests[0]["digest"].as_str().unwrap());
    assert_eq!(istio, registry.named(&pinned));

    let layout = format!("oci:{}:copy", folder.path().join("layout").display());
    let (from, to) = (format!("docker://{index}"), registry.named("copies/canary:1"));
    let copy = ["copy", "--all", "--preserve-digests"];
    let insecure = |side: &'static str| [side];
    skopeo(&[&copy[..], &insecure("--src-tls-verify=false"), &[&from, &layout]].concat());
    let target = format!("docker://{to}");
    skopeo(&[&copy[..], &insecure("--dest-tls-verify=false"), &[&layout, &target]].concat());
    assert_eq!(pull(folder.path(), &to, &[PLAIN]), stamp('a'));
    let (_, digest) = index.split_once('@').unwrap();
    let pinned = format!("{to}@{digest}");
    assert_eq!(pull(folder.path(), &pinned, &[PLAIN]), stamp('a'));
}

#[test]
fn each_manifest_alone_and_its_docker_form_are_read_back() {
    let Some(registry) = Registry::plain() else { return };
    let folder = folder();
    let (index, istio) = push(folder.path(), &registry.named("acme/canary:1.2"), &[PLAIN]);
    if skopeo(&["--version"]).is_none() {
        return;
    }
    let children = raw(&index)["manifests"].clone();
    for child in children.as_array().unwrap() {
        let digest = child["digest"].as_str().unwrap();
        let reference = registry.named(&format!("acme/canary@{digest}"));
        assert_eq!(pull(folder.path(), &reference, &[PLAIN]), stamp('a'));
    }
    let docker = registry.named("docker/canary:1");
    let (from, to) = (format!("docker://{istio}"), format!("docker://{docker}"));
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&[&["copy", "--format", "v2s2"], &insecure[..], &[&from, &to]].concat());
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!(raw(&docker)["mediaType"], media_type);
    assert_eq!(pull(folder.path(), &docker, &[PLAIN]), stamp('a'));
}

#[test]
fn a_second_push_uploads_nothing_and_prints_the_same() {
    let Some(registry) = Registry::plain() else { return };
    let folder = folder();
    let reference = registry.named("acme/canary:1.2");
    let states = || {
        let arguments = ["push", &reference, "canary.wasm", PLAIN, "-o", "json"];
        let (status, stdout, stderr) = said(&portcullis(folder.path(), &arguments));
        assert_eq!(status, Some(0), "{stderr}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["schema"], "portcullis.push/1");
        let parts = report["parts"].as_array().unwrap().iter();
        let states: Vec<String> = parts.map(|part| part["state"].to_string()).collect();
        (report["pinned"].clone(), report["istio"].clone(), states)
    };
    let (first, second) = (states(), states());
    assert_eq!(first.2, ["\"uploaded\""; 7]);
    assert_eq!(second.2, ["\"present\""; 7]);
    assert_eq!((first.0, first.1), (second.0, second.1));
}

#[test]
fn tls_and_passwords_are_asked_for_and_their_lack_is_told() {
    let Some(registry) = Registry::secure() else { return };
    let folder = folder();
    let reference = registry.named("acme/canary:1.2");
    let ca = registry.ca().display().to_string();
    let refused = |more: &[&str]| {
        let arguments = [&["push", &reference, "canary.wasm"], more].concat();
        let (status, stdout, stderr) = said(&portcullis(folder.path(), &arguments));
        assert_eq!((status, stdout.as_str()), (Some(69), ""), "{stderr}");
        stderr
    };
    let unknown = refused(&[]);
    assert!(unknown.starts_with("error[P0404]") && unknown.contains("--ca-file"), "{unknown}");
    let nobody = refused(&["--ca-file", &ca]);
    assert!(nobody.starts_with("error[P0405]"), "{nobody}");
    let config = |password: &str| {
        let auths = serde_json::json!({registry.address.to_string(): {"username": USER, "password": password}});
        serde_json::json!({ "auths": auths }).to_string()
    };
    fs::write(folder.path().join("wrong.json"), config("open barley")).unwrap();
    let wrong = refused(&["--ca-file", &ca, "--credentials", "wrong.json"]);
    assert!(wrong.starts_with("error[P0405]") && !wrong.contains("barley"), "{wrong}");

    fs::write(folder.path().join("config.json"), config(PASSWORD)).unwrap();
    let (index, _) = push(folder.path(), &reference, &["--ca-file", &ca]);
    assert_eq!(pull(folder.path(), &index, &["--ca-file", &ca]), stamp('a'));
    let authorities = folder.path().join("authorities");
    fs::create_dir(&authorities).unwrap();
    fs::copy(&ca, authorities.join("ca.crt")).unwrap();
    let (creds, image) = (format!("{USER}:{PASSWORD}"), format!("docker://{index}"));
    let authorities = authorities.display().to_string();
    skopeo(&["inspect", "--raw", "--creds", &creds, "--cert-dir", &authorities, &image]);
}

#[test]
fn what_cannot_be_pushed_says_why_and_leaves_nothing_there() {
    let Some(registry) = Registry::plain() else { return };
    let folder = folder();
    fs::write(folder.path().join("notes.wasm"), "to whom it may concern").unwrap();
    let reference = registry.named("acme/canary:1.2");
    for (arguments, code, exit) in [
        (["push", "acme/", "canary.wasm", PLAIN], "P0403", 65),
        (["push", &reference, "notes.wasm", PLAIN], "P0203", 65),
        (["push", &reference, "missing.wasm", PLAIN], "P0401", 65),
        (["push", &reference, "canary.wasm", "-q"], "P0404", 69),
    ] {
        let (status, stdout, stderr) = said(&portcullis(folder.path(), &arguments));
        assert_eq!((status, stdout.as_str()), (Some(exit), ""), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with(&format!("error[{code}]")), "{arguments:?}: {stderr}");
        assert!(code != "P0404" || stderr.contains("--plain-http"), "{stderr}");
    }
    let (status, _, stderr) = said(&portcullis(folder.path(), &["pull", &reference, PLAIN]));
    assert_eq!(status, Some(69));
    assert!(stderr.starts_with("error[P0406]"), "{stderr}");
}
