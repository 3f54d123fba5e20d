//! The last good generation on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::modules::{FILTER, stamp, stamped};
use super::{Cluster, answer, status};
use crate::program::{ROUTE, backend, eventually, upstream};
use base64::Engine as _;
use portcullis_vm::Digest;
use serde_json::json;

fn kept(cluster: &Cluster) -> Vec<PathBuf> {
    let folder = cluster.cache.path().join("modules/last-good");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn with_filter() -> Cluster {
    let cluster = Cluster::new();
    let module = base64::engine::general_purpose::STANDARD.encode(stamp('a'));
    let map = json!({"data": {"f.yaml": FILTER}, "binaryData": {"stamp.wasm": module}});
    cluster.api.put_map("shop", "filter", map);
    cluster
}

#[test]
fn a_proxy_that_starts_without_the_api_server_serves_what_was_live_before() {
    let cluster = with_filter();
    let app = cluster.app();
    assert_eq!((answer(&app), stamped(&app)), ("one".to_owned(), Some('a')));
    drop(app);
    let files = kept(&cluster);
    assert_eq!(files.len(), 1, "{files:?}");
    let folder = files[0].parent().unwrap();
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o077, 0);

    cluster.api.go_down();
    let app = cluster.app();
    assert_eq!((answer(&app), stamped(&app)), ("one".to_owned(), Some('a')));
    let shown = status(&app);
    assert!(!shown["restored_from"].is_null(), "{shown}");
    assert!(!shown["kubernetes"]["stale_since"].is_null(), "{shown}");

    // And goes on from there.
    let two = backend(upstream("two"));
    cluster.api.put("shop", "app", &[("app.yaml", &two), ("route.yaml", ROUTE)]);
    cluster.api.come_back();
    eventually(|| answer(&app) == "two");
    assert_eq!(stamped(&app), Some('a'));
    eventually(|| status(&app)["restored_from"].is_null());
}

#[test]
fn what_is_bad_at_a_start_is_replaced_by_what_was_good_before_it() {
    let cluster = with_filter();
    drop(cluster.app());
    let bad = FILTER.replace("spec: {", "spec: {wrong: 1, ");
    cluster.api.put("shop", "filter", &[("f.yaml", &bad)]);
    let app = cluster.app();
    assert_eq!((answer(&app), stamped(&app)), ("one".to_owned(), Some('a')));
    assert_eq!(super::source(&app, "configmap://shop/filter")["problem"]["code"], "P0102");
}

#[test]
fn a_file_that_is_not_whole_is_not_there() {
    let cluster = with_filter();
    drop(cluster.app());
    let file = kept(&cluster).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    is_not_used(&cluster, "cannot be used: it is not whole");
}

#[test]
fn a_file_of_another_version_is_not_used() {
    let cluster = with_filter();
    drop(cluster.app());
    let file = kept(&cluster).pop().unwrap();
    let bytes = fs::read(&file).unwrap();
    let (_, rest) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1);
    let mark = b"portcullis.last-good/1";
    let at = rest.windows(mark.len()).position(|window| window == mark).unwrap();
    let mut rest = rest.to_vec();
    rest[at + mark.len() - 1] = b'7';
    let sum = format!("{}\n", Digest::of(&rest));
    fs::write(&file, [sum.as_bytes(), &rest].concat()).unwrap();
    is_not_used(&cluster, "\"portcullis.last-good/7\", not a portcullis.last-good/1");
}

/// What is on disk, for this reason, which `/status` shows until something better is there.
fn is_not_used(cluster: &Cluster, reason: &str) {
    cluster.api.go_down();
    let app = cluster.app();
    assert!(app.addresses().is_empty());
    let problem = status(&app)["last_good_problem"].as_str().unwrap().to_owned();
    assert!(problem.contains(reason), "{problem}");
    cluster.api.come_back();
    eventually(|| !app.addresses().is_empty() && answer(&app) == "one");
    eventually(|| status(&app)["last_good_problem"].is_null());
}

#[test]
fn a_configuration_that_cannot_be_written_is_shown_and_written_with_the_next_change() {
    let cluster = with_filter();
    drop(cluster.app());
    let file = kept(&cluster).pop().unwrap();
    // No user can put a file in the place of this.
    fs::remove_file(&file).unwrap();
    fs::create_dir_all(file.join("in the way")).unwrap();
    let app = cluster.app();
    assert_eq!(answer(&app), "one");
    eventually(|| status(&app)["last_good_problem"].to_string().contains("cannot be written"));
    fs::remove_dir_all(&file).unwrap();
    // Nothing of this goes live, and what is live is not there yet.
    let bad = FILTER.replace("spec: {", "spec: {wrong: 1, ");
    cluster.api.put("shop", "filter", &[("f.yaml", &bad)]);
    eventually(|| file.is_file());
    eventually(|| status(&app)["last_good_problem"].is_null());
}

#[test]
fn what_a_killed_process_has_left_half_written_is_removed() {
    let cluster = with_filter();
    drop(cluster.app());
    let folder = cluster.cache.path().join("modules/last-good");
    fs::write(folder.join(".draft-left"), "half of i").unwrap();
    drop(cluster.app());
    assert_eq!(kept(&cluster).len(), 1);
}

#[test]
fn a_proxy_of_another_namespace_has_a_generation_of_its_own() {
    let cluster = with_filter();
    drop(cluster.app());
    cluster.api.go_down();
    let mut settings = cluster.settings();
    settings.kubernetes.as_mut().unwrap().namespace = Some("bank".to_owned());
    let app = portcullis::app::App::start(settings).unwrap();
    assert!(app.addresses().is_empty());
}
