//! Which crate a folder holds, and which workspace it belongs to. It asks cargo, and never reads
//! a manifest itself.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::{command, output};
use crate::error::BuildError;

/// A crate that can be compiled to a module.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) manifest: PathBuf,
    pub(crate) name: String,
    /// What the compiled file is called, without `.wasm`.
    pub(crate) library: String,
    pub(crate) workspace: PathBuf,
}

impl Package {
    /// The crate in a folder, or of a manifest.
    pub(crate) fn find(path: &Path, cargo: &Path) -> Result<Package, BuildError> {
        let refuse = |problem: String| BuildError::Manifest { path: path.to_owned(), problem };
        let manifest = if path.is_dir() { path.join("Cargo.toml") } else { path.to_owned() };
        let manifest = manifest
            .canonicalize()
            .map_err(|error| refuse(format!("no Cargo.toml to be found here ({error})")))?;
        let mut ask = command(cargo);
        ask.args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"]).arg(&manifest);
        let answer = output(&mut ask)?;
        if !answer.status.success() {
            return Err(refuse(String::from_utf8_lossy(&answer.stderr).trim().to_owned()));
        }
        let metadata: Value = serde_json::from_slice(&answer.stdout)
            .map_err(|error| refuse(format!("cargo's metadata cannot be read: {error}")))?;
        Package::pick(&metadata, manifest).map_err(refuse)
    }

    fn pick(metadata: &Value, manifest: PathBuf) -> Result<Package, String> {
        let package = list(metadata, "packages")
            .find(|package| text(package, "manifest_path") == manifest.to_str())
            .ok_or("this is a workspace, not a crate: name the filter's own folder")?;
        let name = text(package, "name").ok_or("the crate has no name")?;
        let library = list(package, "targets")
            .find(|target| list(target, "kind").any(|kind| kind == "cdylib"))
            .and_then(|target| text(target, "name"))
            .ok_or(r#"no library to compile: add `crate-type = ["cdylib", "rlib"]` to [lib]"#)?;
        let workspace = text(metadata, "workspace_root").ok_or("the crate has no workspace")?;
        Ok(Package {
            name: name.to_owned(),
            library: library.replace('-', "_"),
            workspace: workspace.into(),
            manifest,
        })
    }
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}
