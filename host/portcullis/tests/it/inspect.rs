//! `portcullis inspect`: everything that is printed for small modules, and what it finds in ones that compilers made.

use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_build::{Options, Target, build};
use serde_json::Value;

use super::golden::transcript;

#[test]
fn modules_are_described_with_what_stands_against_them() {
    transcript("inspect");
}

fn compiled(folder: &str, target: Target) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut options = Options::new(root.join(folder));
    options.target = target;
    build(&options, &mut |step| println!("{step}")).unwrap().path
}

fn inspected(module: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["inspect", "-o", "json"])
        .arg(module)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_filter_on_the_stock_crate_is_known_for_what_it_is_in_both_flavours() {
    for (target, wasi) in [(Target::Wasip1, true), (Target::Unknown, false)] {
        let found = inspected(&compiled("conformance/guests/stock", target));
        assert_eq!(found["schema"], "portcullis.inspect/1");
        assert_eq!(found["language"], "Rust");
        assert_eq!(found["sdk"], "proxy-wasm 0.2.5");
        assert!(found["tools"][0].as_str().unwrap().starts_with("rustc "), "{}", found["tools"]);
        assert_eq!(found["abi"]["version"], "0.2.1");
        assert_eq!(found["phases"]["request"], serde_json::json!(["headers", "body", "trailers"]));
        let imports = found["imports"].as_array().unwrap();
        assert!(imports.iter().all(|import| import["supported"] == true), "{imports:?}");
        assert_eq!(imports.iter().any(|one| one["module"] == "wasi_snapshot_preview1"), wasi);
        assert_eq!(loads_on(&found, "Portcullis"), &Value::Bool(true));
        assert_eq!(loads_on(&found, "Envoy"), &Value::Bool(true));
    }
}

#[test]
fn a_filter_on_our_sdk_says_so() {
    let found = inspected(&compiled("filters/canary", Target::Wasip1));
    assert_eq!(found["sdk"], "portcullis-sdk on proxy-wasm 0.2.5");
}

fn loads_on<'a>(found: &'a Value, host: &str) -> &'a Value {
    let hosts = found["hosts"].as_array().unwrap();
    &hosts.iter().find(|one| one["host"] == host).unwrap()["runs"]
}
