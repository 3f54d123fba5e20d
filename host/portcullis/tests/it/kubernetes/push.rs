//! `portcullis push configmap://…`, and what proxies make of it.

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use portcullis::app::App;
use portcullis_vm::Digest;

use super::Cluster;
use super::modules::{FILTER, stamp, stamped};
use super::pods::{Answers, Pod};
use crate::program::eventually;

fn push(cluster: &Cluster, url: &str, file: &Path) -> Output {
    command(cluster, url, file).output().unwrap()
}

fn command(cluster: &Cluster, url: &str, file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["push", url, file.to_str().unwrap(), "--kubeconfig"]);
    command.arg(cluster.api.kubeconfig());
    command
}

/// `module` with a custom section that no compression makes smaller.
fn bulky(module: &[u8], bytes: usize) -> Vec<u8> {
    let mut state = 88172645463325252u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    let mut section = b"\x05noise".to_vec();
    section.extend(noise.take(bytes));
    let mut length = Vec::new();
    let mut rest = section.len();
    while rest >= 128 {
        length.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    length.push(u8::try_from(rest).unwrap());
    [module, &[0], &length, &section].concat()
}

#[test]
fn a_pushed_module_runs_and_so_does_the_next_one() {
    let cluster = Cluster::new();
    let file = cluster.cache.path().join("stamp.wasm");
    let url = "configmap://shop/mods/stamp.wasm";
    let write = |module: &[u8]| {
        std::fs::write(&file, module).unwrap();
        let output = push(&cluster, url, &file);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let last = format!("{url}@sha256:{}", Digest::of(module));
        assert_eq!(text.lines().last(), Some(&*last));
    };
    write(&stamp('a'));
    cluster.api.put(
        "shop",
        "filter",
        &[("f.yaml", &FILTER.replace("/filter/stamp.wasm", "/mods/stamp.wasm"))],
    );
    let app = cluster.app();
    assert_eq!(stamped(&app), Some('a'));

    // Too large for one ConfigMap; then another one, whose pieces take their place.
    for version in ['b', 'c'] {
        write(&bulky(&stamp(version), 2 << 20));
        eventually(|| stamped(&app) == Some(version));
        let pieces = cluster
            .api
            .lock()
            .names("shop")
            .iter()
            .filter(|name| name.starts_with("mods-"))
            .count();
        assert_eq!(pieces, 3);
        // They go when it goes, whoever deletes it.
        let state = cluster.api.lock();
        for name in state.names("shop").iter().filter(|name| name.starts_with("mods-")) {
            let owner = &state.get("shop", name).unwrap()["metadata"]["ownerReferences"][0];
            assert_eq!((&owner["name"], &owner["uid"]), (&"mods".into(), &"uid-mods".into()));
        }
    }
    // What stands beside it stays.
    std::fs::write(&file, stamp('x')).unwrap();
    assert!(push(&cluster, "configmap://shop/mods/other.wasm", &file).status.success());
    write(&stamp('d'));
    eventually(|| stamped(&app) == Some('d'));
    let names = cluster.api.lock().names("shop");
    assert!(names.iter().all(|name| !name.starts_with("mods-")), "{names:?}");
    let state = cluster.api.lock();
    let keys = state.get("shop", "mods").unwrap()["binaryData"].as_object().unwrap().clone();
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["other.wasm.gz", "stamp.wasm.gz"]);
}

#[test]
fn what_another_push_writes_at_the_same_time_stays() {
    let cluster = Cluster::new();
    let file = cluster.cache.path().join("stamp.wasm");
    std::fs::write(&file, stamp('a')).unwrap();
    // It is quicker, and both have found no ConfigMap there.
    cluster.api.lock().rival = Some(serde_json::json!({"other.wasm.gz": "H4s="}));
    let output = push(&cluster, "configmap://shop/mods/stamp.wasm", &file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let state = cluster.api.lock();
    let map = state.get("shop", "mods").unwrap();
    let keys = map["binaryData"].as_object().unwrap().keys().collect::<Vec<_>>();
    assert_eq!(keys, ["other.wasm.gz", "stamp.wasm.gz"]);
    assert_eq!(map["metadata"]["labels"]["portcullis.dev/config"], "true");
}

#[test]
fn what_is_somebody_elses_or_no_module_is_not_written() {
    let cluster = Cluster::new();
    let file = cluster.cache.path().join("stamp.wasm");
    std::fs::write(&file, stamp('a')).unwrap();
    let other = base64::engine::general_purpose::STANDARD.encode(stamp('b'));
    cluster.api.put_map("shop", "mods", serde_json::json!({"binaryData": {"m.wasm": other}}));
    let refused = |url: &str, code: &str| {
        let output = push(&cluster, url, &file);
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && words.contains(code), "{words}");
        assert_eq!(cluster.api.count("PATCH"), 0);
    };
    refused("configmap://shop/mods/m.wasm", "P0423");
    refused("configmap://shop/mods/m.txt", "P0111");
    std::fs::write(&file, "no module").unwrap();
    refused("configmap://shop/mods/new.wasm", "P0203");
}

#[test]
fn a_push_that_waits_ends_when_every_proxy_runs_the_module_or_says_who_does_not_and_why() {
    let cluster = Cluster::new();
    let file = cluster.cache.path().join("stamp.wasm");
    let url = "configmap://shop/mods/stamp.wasm";
    let write = |module: &[u8], wait: &str| {
        std::fs::write(&file, module).unwrap();
        let output = command(&cluster, url, &file).arg(wait).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, text, words) = write(&stamp('a'), "--wait=1ms");
    assert_eq!(code, 69, "{words}");
    assert!(words.contains("no pod in namespace shop has the label"), "{words}");
    assert!(text.lines().last().unwrap().starts_with(url), "{text}");

    let filter = FILTER.replace("/filter/stamp.wasm", "/mods/stamp.wasm");
    cluster.api.put("shop", "filter", &[("f.yaml", &filter)]);
    let apps = [
        cluster.app(),
        App::start(cluster.settings_with(&cluster.cache.path().join("two"))).unwrap(),
    ];
    let pod = |(app, name): (&App, &str)| Pod::new(name, Answers::From(app.admin().unwrap()));
    cluster.api.lock().pods = apps.iter().zip(["web-1", "web-2"]).map(pod).collect();
    let (code, text, words) = write(&stamp('b'), "--wait");
    assert_eq!((code, &*words), (0, ""), "{text}");
    assert!(text.contains("\nlive in web-1, web-2\n"), "{text}");
    assert_eq!(apps.each_ref().map(stamped), [Some('b'); 2]);

    let other = "configmap://bank/mods/stamp.wasm";
    let mut command = command(&cluster, other, &file);
    let output = command.args(["--wait", "-n", "shop"]).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("web-1 does not watch bank/mods"), "{words}");

    // The document pins what it has; it keeps that.
    let pinned =
        filter.replace("stamp.wasm", &format!("stamp.wasm@sha256:{}", Digest::of(&stamp('b'))));
    cluster.api.put("shop", "filter", &[("f.yaml", &pinned)]);
    let (code, text, words) = write(&stamp('c'), "--wait=1ms");
    assert_eq!(code, 1, "{text}{words}");
    assert!(words.contains("P0426") && words.contains("web-1 does not run"), "{words}");
}
