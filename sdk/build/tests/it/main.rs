//! Compiles real, tiny crates through the public door. They have no dependencies and share the
//! workspace's own `target/wasm`, so that the standard library is compiled at most once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use portcullis_build::{BuildError, Built, Options, Target, build, build_all};
use tempfile::TempDir;

const MARKED: &str = r#"
    #[unsafe(no_mangle)]
    pub extern "C" fn proxy_abi_version_0_2_1() {}
    #[unsafe(no_mangle)]
    pub extern "C" fn proxy_on_vm_start(_: i32, size: i32) -> i32 {
        assert!(size < 100, "too large: {size}");
        1
    }
"#;

/// A crate of its own, in a folder that goes away with it.
fn project(name: &str, lib: &str, source: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [lib]\n{lib}\n[workspace]\n"
    );
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.path().join("src/lib.rs"), source).unwrap();
    folder
}

fn options(folder: &Path, target: Target) -> Options {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/wasm");
    Options { target, target_dir: Some(shared), ..Options::new(folder) }
}

fn compile(folder: &Path, target: Target) -> Result<Built, BuildError> {
    build(&options(folder, target), &mut |_| {})
}

#[test]
fn a_marked_library_becomes_a_small_module_with_function_names() {
    for target in [Target::Wasip1, Target::Unknown] {
        let folder = project("tiny-filter", "crate-type = [\"cdylib\", \"rlib\"]", MARKED);
        let output = folder.path().join("out/tiny.wasm");
        let mut options = options(folder.path(), target);
        options.output = Some(output.clone());
        let built = build_all(&[options], &mut |_| {}).unwrap().remove(0);

        let bytes = fs::read(&output).unwrap();
        assert_eq!(built.path, output);
        assert_eq!(built.size, bytes.len() as u64);
        assert!(built.size < 120_000, "{} bytes for {target:?}", built.size);
        assert_eq!(built.digest.len(), 64);
        assert!(built.toolchain.starts_with("rustc "), "{}", built.toolchain);
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(has("panic_fmt"), "backtraces need the name section");
        let here = folder.path().to_str().unwrap();
        assert!(!has(here), "panic messages give this machine's paths away");
    }
}

#[test]
fn the_same_source_gives_the_same_bytes_wherever_it_stands() {
    let digest = || {
        let folder = project("same-filter", "crate-type = [\"cdylib\"]", MARKED);
        compile(folder.path(), Target::Wasip1).unwrap().digest
    };
    assert_eq!(digest(), digest());
}

#[test]
fn what_cannot_become_a_module_is_refused_with_its_reason() {
    let check = |lib: &str, source: &str, expected: &str| {
        let folder = project("bad-filter", lib, source);
        let error = compile(folder.path(), Target::Unknown).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let cdylib = "crate-type = [\"cdylib\"]";
    check(cdylib, "pub fn broken() -> u32 { \"text\" }", "mismatched types");
    check(cdylib, "pub fn plain() {}", "proxy_abi_version");
    check("", MARKED, "crate-type = [\"cdylib\", \"rlib\"]");
    let foreign = format!(
        "{MARKED}
        #[link(wasm_import_module = \"browser\")]
        unsafe extern \"C\" {{ fn alert(); }}
        #[unsafe(no_mangle)]
        pub extern \"C\" fn proxy_on_log(_: i32) {{ unsafe {{ alert() }} }}"
    );
    check(cdylib, &foreign, "browser.alert");
}

#[test]
fn a_folder_without_a_crate_is_refused_with_its_path() {
    let folder = TempDir::new().unwrap();
    let error = compile(folder.path(), Target::Wasip1).unwrap_err();
    assert!(matches!(&error, BuildError::Manifest { path, .. } if path == folder.path()));
    assert!(error.to_string().contains("no Cargo.toml"), "{error}");
}
