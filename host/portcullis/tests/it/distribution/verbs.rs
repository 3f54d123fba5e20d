//! `portcullis pull`, `inspect oci://…` and `check` as people and programs run them.

use std::path::Path;
use std::process::{Command, Output};

use portcullis_vm::Digest;
use serde_json::Value;

use super::images::{compat, mark};
use super::server::{Answer, Contents, Server};
use crate::program::{PROXY, replace};

fn run(home: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(words)
        .current_dir(home)
        .env("HOME", home)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("DOCKER_CONFIG")
        .output()
        .unwrap()
}

fn serving() -> (Server, String) {
    let mut contents = Contents::default();
    let digest = compat(&mut contents, "1", &mark('a'));
    (Server::start(move |request| contents.answer(request)), digest)
}

fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn pull_pins_a_tag_and_inspect_looks_into_it() {
    let (home, (server, digest)) = (tempfile::tempdir().unwrap(), serving());
    let image = format!("{}/acme/mark:1", server.address);
    let pulled = json(&run(home.path(), &["pull", "--plain-http", "-o", "json", &image]));
    assert_eq!(pulled["schema"], "portcullis.pull/1");
    assert_eq!(pulled["pinned"], format!("{image}@{digest}"));
    assert_eq!(pulled["module"], format!("sha256:{}", Digest::of(&mark('a'))));
    let url = format!("oci://{image}");
    let inspected = json(&run(home.path(), &["inspect", "--plain-http", "-o", "json", &url]));
    assert_eq!(inspected["schema"], "portcullis.inspect/1");
    assert_eq!(inspected["file"], format!("{url}@{digest}"));
    assert_eq!(inspected["sha256"], Digest::of(&mark('a')).to_string());
}

#[test]
fn what_cannot_be_pulled_ends_with_what_that_means() {
    let (home, (server, _)) = (tempfile::tempdir().unwrap(), serving());
    for (image, status, code) in [
        (format!("{}/acme/mark:2", server.address), 69, "P0406"),
        (format!("{}/Acme/mark:2", server.address), 65, "P0403"),
        ("169.254.169.254/acme/mark".to_owned(), 65, "P0407"),
    ] {
        let output = run(home.path(), &["pull", "--plain-http", "-o", "json", &image]);
        assert_eq!(output.status.code(), Some(status), "{image}");
        assert_eq!(json(&output)["problems"][0]["code"], code, "{image}");
    }
}

#[test]
fn check_fetches_what_documents_name() {
    let (home, (server, _)) = (tempfile::tempdir().unwrap(), serving());
    let named = format!("  registries: [{{host: \"{}\", plainHttp: true}}]\n", server.address);
    replace(home.path(), "proxy.yaml", format!("{PROXY}{named}").as_bytes());
    let check = |tag: &str| {
        let filter = format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: mark}}\n\
             spec: {{url: \"oci://{}/acme/mark:{tag}\"}}\n",
            server.address
        );
        replace(home.path(), "filter.yaml", filter.as_bytes());
        json(&run(home.path(), &["check", "-c", ".", "-o", "json"]))
    };
    let found = check("1");
    assert_eq!((&found["filters"], &found["problems"]), (&Value::from(1), &Value::Array(vec![])));
    assert_eq!(check("2")["problems"][0]["code"], "P0406");
}

#[test]
fn a_program_whose_filter_cannot_be_had_says_that_something_is_unavailable() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start(|_| Answer::new(501, "")));
    let named = format!("  registries: [{{host: \"{}\", plainHttp: true}}]\n", server.address);
    replace(home.path(), "proxy.yaml", format!("{PROXY}{named}").as_bytes());
    let run_with = |more: &str| {
        let filter = format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: mark}}\n\
             spec: {{url: \"oci://{}/acme/mark:1\"{more}}}\n",
            server.address
        );
        replace(home.path(), "filter.yaml", filter.as_bytes());
        let output = run(home.path(), &["run", "-c", ".", "--cache", "cache"]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = run_with("");
    assert_eq!(status, Some(69), "{said}");
    assert!(said.contains("P0404") && said.contains("P0209"), "{said}");
    let (status, said) = run_with(", imagePullSecret: ../pull");
    assert_eq!(status, Some(65), "{said}");
    assert!(said.contains("is not the name of a Secret"), "{said}");
}

#[test]
fn a_password_that_a_helper_keeps_is_needed_only_where_one_is_asked_for() {
    let (home, (open, _)) = (tempfile::tempdir().unwrap(), serving());
    let closed =
        Server::start(|_| Answer::new(401, "").with("www-authenticate", "Basic realm=\"acme\""));
    std::fs::create_dir(home.path().join(".docker")).unwrap();
    let entries = format!(r#""{}": {{}}, "{}": {{}}"#, open.address, closed.address);
    let config = format!(r#"{{"auths": {{{entries}}}, "credsStore": "desktop"}}"#);
    std::fs::write(home.path().join(".docker/config.json"), config).unwrap();
    let pull = |server: &Server, more: &[&str]| {
        let image = format!("{}/acme/mark:1", server.address);
        run(home.path(), &[&["pull", "--plain-http", &image], more].concat())
    };
    assert!(pull(&open, &[]).status.success());
    for more in [&[][..], &["--credentials", ".docker/config.json"]] {
        let said = String::from_utf8(pull(&closed, more).stderr).unwrap();
        assert!(said.contains("P0405") && said.contains("helper"), "{said}");
    }
}

#[test]
fn hints_are_about_what_was_typed() {
    let (home, (server, _)) = (tempfile::tempdir().unwrap(), serving());
    let closed = Server::start(|_| Answer::new(401, ""));
    let image = |server: &Server| format!("{}/acme/mark:1", server.address);
    for (words, hint) in [
        (vec!["pull", "https://acme.test/mark.wasm"], "only images"),
        (vec!["pull", "--plain-http", &image(&closed)], "--credentials"),
        (vec!["inspect", &image(&server)], "oci://HOST"),
    ] {
        let output = run(home.path(), &words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(hint), "{words:?}: {said}");
    }
}
