//! The program of `conformance/cluster`: a real etcd, kube-apiserver and kubectl, built from their Go modules once for each
//! set of versions and kept outside the tree.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

/// Where the program is. `None`, having said why: there is no Go here, and nobody insists.
pub fn program() -> Option<&'static Path> {
    static BUILT: LazyLock<Option<PathBuf>> = LazyLock::new(|| match built() {
        Ok(program) => Some(program),
        Err(missing) => {
            let wanted = env::var_os("CI").is_some_and(|ci| !ci.is_empty());
            assert!(!wanted, "no Go here: {missing}");
            eprintln!(
                "skipped: a real API server is built with Go, and there is none here ({missing})"
            );
            None
        }
    });
    BUILT.as_deref()
}

fn built() -> Result<PathBuf, std::io::Error> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/cluster");
    let mut digest = Sha256::new();
    for file in ["main.go", "go.mod", "go.sum"] {
        digest.update(fs::read(source.join(file)).unwrap());
    }
    let digest: String =
        digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let program = cache().join(format!("cluster-{digest}"));
    if program.is_file() {
        return Ok(program);
    }
    let started = Instant::now();
    eprintln!("building a kube-apiserver from Go modules, once: some minutes");
    fs::create_dir_all(cache()).unwrap();
    let unfinished = program.with_extension(std::process::id().to_string());
    let output = Command::new("go")
        .current_dir(&source)
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-ldflags", &flags(&source), "-o"])
        .arg(&unfinished)
        .arg(".")
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(unfinished, &program).unwrap();
    eprintln!("built in {} s", started.elapsed().as_secs());
    Ok(program)
}

/// No symbols; and the version that Kubernetes' own build writes in, since clients read it.
fn flags(source: &Path) -> String {
    let pins = fs::read_to_string(source.join("go.mod")).unwrap();
    let pin = pins.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    let version = pin.expect("go.mod names k8s.io/kubernetes");
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap(), parts.next().unwrap());
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    let version = set("gitVersion", &format!("v{version}"));
    format!("-s -w {version} {} {}", set("gitMajor", major), set("gitMinor", minor))
}

fn cache() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(env::home_dir()?.join(".cache")));
    cache.expect("a home folder").join("portcullis-ci")
}
