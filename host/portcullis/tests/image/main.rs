//! The container image: built, unpacked, and run the way a container is, with nothing around it. Takes minutes, hence no part
//! of a plain `cargo test`: `PROFILE=dev cargo test -p portcullis --test image -- --nocapture`, as root, with musl-tools and buildah. Without
//! PROFILE it is the image as it is released, which takes half an hour to build.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

#[path = "../../../guests.rs"]
mod frame;
#[path = "../cluster/process.rs"]
#[allow(dead_code, reason = "the tests on a real API server use more of it")]
mod process;
#[path = "../it/program.rs"]
#[allow(dead_code, reason = "the tests on folders use more of it")]
mod program;

use process::Process;
use program::{PROXY, ROUTE, backend, fetch, upstream};

const FILTER: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\n\
    metadata: {name: stamp}\nspec: {url: \"file://stamp.wasm\"}\n";
/// Of the user that the image names.
const NOBODY: u32 = 65532;

/// What runs in the image. `unshare` cannot end it, since it is another user's; we can.
struct Container(Process);

impl Drop for Container {
    fn drop(&mut self) {
        let id = self.0.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        for child in children.filter_map(Pid::from_raw) {
            let _ended_already = kill_process(child, Signal::KILL);
        }
    }
}

/// The image as an OCI layout. `None`, having said why: it cannot be built or run here, and nobody insists.
fn built() -> Option<PathBuf> {
    let missing = ["buildah", "musl-gcc", "unshare"]
        .into_iter()
        .find(|tool| Command::new(tool).arg("--version").output().is_err());
    let missing = missing.map(str::to_owned).or_else(|| {
        (!rustix::process::geteuid().is_root()).then(|| "the right to be root".to_owned())
    });
    if let Some(missing) = missing {
        let wanted = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
        assert!(!wanted, "the image needs {missing}");
        eprintln!("skipped: the image needs {missing}");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/image/build");
    let layout = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
    let output = Command::new(script).arg(&layout).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(layout)
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Unpacks the image's files into `root`; its configuration.
fn unpack(layout: &Path, root: &Path) -> Value {
    let index = read(&layout.join("index.json"));
    let manifest = read(&blob(layout, &index["manifests"][0]));
    for layer in manifest["layers"].as_array().unwrap() {
        let mut tar = Command::new("tar");
        tar.arg("--extract").arg("--file").arg(blob(layout, layer)).arg("--directory").arg(root);
        assert!(tar.arg("--gzip").status().unwrap().success());
    }
    read(&blob(layout, &manifest["config"]))["config"].take()
}

fn files(root: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(root).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_one_program_in_the_image_serves_and_compiles_filters_as_nobody_with_nothing_around_it() {
    let Some(layout) = built() else { return };
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let config = unpack(&layout, root);
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], json!(["/portcullis"]));
    assert_eq!(config["Cmd"], json!(["run", "--kubernetes"]));
    assert_eq!(files(root), BTreeSet::from(["portcullis".to_owned()]));

    // What the runtime of containers and a Deployment add: /proc, /dev, documents, a folder that may be written to.
    for folder in ["proc", "dev", "conf", "kept"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    let mut null = Command::new("mknod");
    null.args(["--mode=666"]).arg(root.join("dev/null")).args(["c", "1", "3"]);
    assert!(null.status().unwrap().success());
    chown(root.join("kept"), Some(NOBODY), Some(NOBODY)).unwrap();
    let body = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (drop (call $add (i32.const 2) $name$ $value$)) (i32.const 0))"#;
    let module = frame::text(&[("name", "x-filter"), ("value", "ran")], body);
    let app = backend(upstream("hello"));
    let documents =
        [("proxy.yaml", PROXY), ("app.yaml", &app), ("route.yaml", ROUTE), ("stamp.yaml", FILTER)];
    for (name, text) in documents {
        fs::write(root.join("conf").join(name), text).unwrap();
    }
    fs::write(root.join("conf/stamp.wasm"), wat::parse_str(module).unwrap()).unwrap();

    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc"]);
    command.args(["--setuid", "65532", "--setgid", "65532"]).arg("--root").arg(root).env_clear();
    command.args(["/portcullis", "run", "-c", "/conf", "--cache", "/kept/portcullis"]);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut container = Container(Process::start(&mut command, log.path()));
    let process = &mut container.0;
    let web = process.until(|said| {
        let address = said.split_once("listening http://")?.1.split_once(' ')?.0;
        address.parse().ok()
    });
    let web = web.unwrap_or_else(|| panic!("it ended:\n{}", process.last_lines()));
    let (head, body) = fetch(web, "/");
    assert!(head.contains("\r\nx-filter: ran\r\n"), "{head}");
    assert_eq!(body, "hello");
    let kept = fs::metadata(root.join("kept/portcullis")).unwrap();
    assert_eq!((kept.uid(), kept.mode() & 0o777), (NOBODY, 0o700));
    assert!(!process.said().contains("compiled in this one"), "{}", process.said());
}
