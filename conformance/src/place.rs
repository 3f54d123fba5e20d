//! Where things lie: this crate's folder in the source tree, and the target folder of the workspace.

use std::path::{Path, PathBuf};

/// `conformance/` of the tree that this program was built from.
#[must_use]
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `target/` of the workspace, or what `CARGO_TARGET_DIR` says.
#[must_use]
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => home().with_file_name("target"),
    }
}

/// What this program keeps between two runs: Envoy, compiled modules.
#[must_use]
pub fn kept() -> PathBuf {
    target().join("conformance")
}
