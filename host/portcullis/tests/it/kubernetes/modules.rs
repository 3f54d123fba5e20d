//! Modules in `binaryData`: plain, compressed, in pieces, and as nobody should have stored them.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use portcullis::app::App;
use portcullis_vm::Digest;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};

use super::{Cluster, answer, judged, source};
use crate::program::{eventually, fetch};

pub const FILTER: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\n\
    metadata: {name: stamp}\nspec: {url: \"configmap:///filter/stamp.wasm\"}\n";

/// A module whose responses carry `x-version: {version}`, one letter.
pub fn stamp(version: char) -> Vec<u8> {
    let body = "(func (export \"proxy_on_response_headers\") (param i32 i32 i32) (result i32)
        (drop (call $add (i32.const 2) $name$ $value$)) (i32.const 0))";
    let strings = [("name", "x-version"), ("value", &*version.to_string())];
    wat::parse_str(crate::frame::text(&strings, body)).unwrap()
}

/// The letter that responses carry.
pub fn stamped(app: &App) -> Option<char> {
    let (head, _) = fetch(app.addresses()[0].1, "/");
    let value = head.lines().find_map(|line| line.strip_prefix("x-version: "))?;
    value.chars().next()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

fn put(cluster: &Cluster, key: &str, bytes: &[u8]) -> String {
    let map = json!({"data": {"f.yaml": FILTER}, "binaryData": {key: STANDARD.encode(bytes)}});
    cluster.api.put_map("shop", "filter", map)
}

#[test]
fn a_module_may_be_stored_plainly_or_compressed() {
    let cluster = Cluster::new();
    put(&cluster, "stamp.wasm", &stamp('a'));
    let app = cluster.app();
    assert_eq!(stamped(&app), Some('a'));
    put(&cluster, "stamp.wasm.gz", &gzip(&stamp('b')));
    eventually(|| stamped(&app) == Some('b'));
    put(&cluster, "stamp.wasm.zst", &zstd(&stamp('c')));
    eventually(|| stamped(&app) == Some('c'));
}

#[test]
fn a_module_that_cannot_be_used_leaves_the_last_good_one_and_says_why() {
    let cluster = Cluster::new();
    put(&cluster, "stamp.wasm", &stamp('a'));
    let app = cluster.app();
    let bomb = gzip(&vec![0; 80 << 20]);
    let mut torn = gzip(&stamp('b'));
    torn.truncate(torn.len() / 2);
    let cases: [(&str, &[u8], &str, &str); 6] = [
        ("stamp.wasm.gz", &bomb, "P0402", "more than"),
        ("stamp.wasm.gz", &torn, "P0401", "not whole as gzip"),
        ("stamp.wasm.zst", b"nothing of this kind", "P0401", "not whole as zstd"),
        ("stamp.wasm", b"\0asm", "P0203", "cannot be used"),
        ("other.wasm", &stamp('b'), "P0401", "has no key stamp.wasm"),
        ("stamp.wasm.index", b"{}", "P0401", "the index cannot be read"),
    ];
    for (key, bytes, code, words) in cases {
        let version = put(&cluster, key, bytes);
        judged(&app, "shop/filter", &version);
        let shown = source(&app, "configmap://shop/filter")["problem"].clone();
        assert_eq!(shown["code"], code, "{shown}");
        assert!(shown.to_string().contains(words), "{shown}");
        assert_eq!((stamped(&app), answer(&app)), (Some('a'), "one".to_owned()));
    }
    put(&cluster, "stamp.wasm", &stamp('d'));
    eventually(|| stamped(&app) == Some('d'));
}

/// An index of these pieces, each a ConfigMap of this name.
fn index(module: &[u8], pieces: &[(&str, &[u8])]) -> String {
    let piece = |(name, bytes): &(&str, &[u8])| json!({"configMap": name, "key": "piece", "sha256": Digest::of(bytes).to_string()});
    let pieces: Vec<Value> = pieces.iter().map(piece).collect();
    let sha256 = Digest::of(module).to_string();
    json!({"schema": "portcullis.index/1", "sha256": sha256, "form": "gzip", "pieces": pieces})
        .to_string()
}

fn put_piece(cluster: &Cluster, name: &str, bytes: &[u8]) {
    let map = json!({"binaryData": {"piece": STANDARD.encode(bytes)}});
    cluster.api.put_map("shop", name, map);
}

#[test]
fn a_module_in_pieces_is_put_together_and_verified() {
    let cluster = Cluster::new();
    put(&cluster, "stamp.wasm", &stamp('a'));
    let app = cluster.app();
    let module = stamp('b');
    let stored = gzip(&module);
    let (left, right) = stored.split_at(stored.len() / 2);
    let parts: [(&str, &[u8]); 2] = [("left", left), ("right", right)];
    let put_index = |index: &str| {
        let map = json!({"data": {"f.yaml": FILTER, "stamp.wasm.index": index}});
        cluster.api.put_map("shop", "filter", map)
    };
    let refused = |version: &str, words: &str| {
        judged(&app, "shop/filter", version);
        let shown = source(&app, "configmap://shop/filter")["problem"].clone();
        assert_eq!(shown["code"], "P0401", "{shown}");
        assert!(shown.to_string().contains(words), "{shown}");
        assert_eq!(stamped(&app), Some('a'));
    };

    put_piece(&cluster, "left", left);
    put_piece(&cluster, "right", b"something else");
    refused(&put_index(&index(&module, &parts)), "holds another piece");
    let other = index(&stamp('c'), &[("left", left)]);
    refused(&put_index(&other), "not whole as gzip");
    // The index is there before its pieces are.
    cluster.api.delete("shop", "right");
    refused(&put_index(&index(&module, &parts)), "right is missing");
    put_piece(&cluster, "right", right);
    eventually(|| stamped(&app) == Some('b'));
}

#[test]
fn documents_follow_a_module_in_another_config_map_and_its_digest_may_be_pinned() {
    let cluster = Cluster::new();
    let put_module = |version| {
        let map = json!({"binaryData": {"m.wasm": STANDARD.encode(stamp(version))}});
        cluster.api.put_map("portcullis-system", "modules", map)
    };
    let url = "configmap://portcullis-system/modules/m.wasm";
    let filter = FILTER.replace("configmap:///filter/stamp.wasm", url);
    put_module('a');
    cluster.api.put("shop", "filter", &[("f.yaml", &filter)]);
    let app = cluster.app();
    assert_eq!(stamped(&app), Some('a'));
    put_module('b');
    eventually(|| stamped(&app) == Some('b'));
    // It is told where the module is, too.
    let told = || {
        let events = &cluster.api.lock().events;
        events.iter().any(|event| event["involvedObject"]["name"] == "modules")
    };
    eventually(told);

    let pinned = format!("{url}@sha256:{}", Digest::of(&stamp('b')));
    let version = cluster.api.put("shop", "filter", &[("f.yaml", &filter.replace(url, &pinned))]);
    judged(&app, "shop/filter", &version);
    put_module('c');
    eventually(|| source(&app, "configmap://shop/filter")["problem"]["code"] == "P0204");
    assert_eq!(stamped(&app), Some('b'));
}
