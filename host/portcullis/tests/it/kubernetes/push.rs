//! `portcullis push configmap://…`, and what proxies make of it.

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use portcullis_vm::Digest;

use super::Cluster;
use super::modules::{FILTER, stamp, stamped};
use crate::program::eventually;

fn push(cluster: &Cluster, url: &str, file: &Path) -> Output {
    let kubeconfig = cluster.api.kubeconfig();
    let args = ["push", url, file.to_str().unwrap(), "--kubeconfig"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(args).arg(kubeconfig).output().unwrap()
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
