//! From a filter's folder to a checked module: toolchain, cargo, check, copy. One build at a time
//! works in a target folder; others wait for its lock. It never compiles into the folder of the
//! cargo that may be running us.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use crate::command::{find, output};
use crate::error::BuildError;
use crate::module;
use crate::package::Package;
use crate::toolchain::{Search, Toolchain};
use crate::{Built, Options, Target};

/// Size before speed, one unit, no unwinding; function names stay, for backtraces.
const PROFILE: [&str; 6] = [
    "profile.release.opt-level='s'",
    "profile.release.lto='fat'",
    "profile.release.codegen-units=1",
    "profile.release.panic='abort'",
    "profile.release.strip='debuginfo'",
    "profile.release.debug=false",
];

/// Compiles one filter. Blocks while cargo works: seconds, or about a minute where the standard
/// library is compiled first. `progress` gets one plain line for each step.
///
/// # Errors
/// No toolchain and none to be had, a crate that does not compile, or a result that is no
/// Proxy-Wasm module.
pub fn build(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
    let started = Instant::now();
    let Some(cargo) = find("cargo").or_else(|| find("cargo-web")) else {
        return Err(BuildError::Toolchain {
            target: options.target.triple(),
            tried: vec!["cargo: not there".to_owned()],
            remedies: vec!["https://rustup.rs".to_owned()],
        });
    };
    let package = Package::find(&options.manifest, &cargo)?;
    let folder = match &options.target_dir {
        Some(folder) => std::path::absolute(folder).map_err(BuildError::file(folder))?,
        None => package.workspace.join("target").join("wasm"),
    };
    fs::create_dir_all(&folder).map_err(BuildError::file(&folder))?;
    let _lock = lock(&folder, progress)?;

    let toolchain = Search::new(options.target, options.install, &folder).run(progress)?;
    announce(&package, options.target, &toolchain, &folder, progress);
    compile(&package, options.target, &toolchain, &folder, progress)?;

    let built = folder
        .join(options.target.triple())
        .join("release")
        .join(format!("{}.wasm", package.library));
    let checked = module::check(&built)?;
    let path = match &options.output {
        Some(output) => put(&built, output)?,
        None => built,
    };
    Ok(Built {
        path,
        size: checked.size,
        digest: checked.digest,
        elapsed: started.elapsed(),
        toolchain: toolchain.version,
    })
}

/// Compiles several filters, in order. Those that share a target folder share everything that is
/// compiled there but the filters themselves.
///
/// # Errors
/// The first that fails ends it, as [`build`] says.
pub fn build_all(
    options: &[Options],
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Built>, BuildError> {
    options.iter().map(|options| build(options, progress)).collect()
}

fn announce(
    package: &Package,
    target: Target,
    toolchain: &Toolchain,
    folder: &Path,
    progress: &mut dyn FnMut(&str),
) {
    let triple = target.triple();
    if toolchain.compiles_std() && !folder.join(triple).exists() {
        progress("compiling the standard library first, once (about a minute)");
    }
    progress(&format!("compiling {} for {triple}", package.name));
}

/// One cargo for each crate: a crate that is `rlib` as well gets link-time optimisation only
/// through `cargo rustc --crate-type`, which takes one crate.
fn compile(
    package: &Package,
    target: Target,
    toolchain: &Toolchain,
    folder: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    let run = |locked: &[&str]| {
        let mut cargo = toolchain.cargo("rustc", target, &remap(&package.workspace));
        cargo.args(["--lib", "--crate-type=cdylib", "--release", "--color=never"]);
        cargo.args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
        cargo.args(locked).arg("--target-dir").arg(folder);
        cargo.arg("--manifest-path").arg(&package.manifest);
        let output = output(&mut cargo)?;
        let stderr = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        Ok((output.status.success(), stderr))
    };
    // A locked build never edits the lock file of the tree it stands in; only a project whose
    // lock file is out of date is built as plain cargo would.
    let mut result = if package.workspace.join("Cargo.lock").is_file() {
        run(&["--locked"])?
    } else {
        run(&[])?
    };
    if !result.0 && result.1.contains("--locked") {
        progress("Cargo.lock is out of date: cargo updates it");
        result = run(&[])?;
    }
    match result {
        (true, _) => Ok(()),
        (false, stderr) => Err(BuildError::Compile { package: package.name.clone(), stderr }),
    }
}

/// Takes this machine's paths out of panic messages, so that the same source gives the same bytes
/// anywhere.
fn remap(workspace: &Path) -> Vec<String> {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let registry = env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
    let mut flags = vec![format!("--remap-path-prefix={}=", workspace.display())];
    if let Some(registry) = registry {
        flags.push(format!("--remap-path-prefix={}=cargo", registry.display()));
    }
    flags
}

/// Held until dropped; the file stays, so that nobody locks a file that another has deleted.
fn lock(folder: &Path, progress: &mut dyn FnMut(&str)) -> Result<File, BuildError> {
    let path = folder.join("build.lock");
    let failed =
        |error: rustix::io::Errno| BuildError::File { path: path.clone(), source: error.into() };
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(BuildError::file(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(error) => return Err(failed(error)),
    }
    progress("waiting for another build in the same folder");
    flock(&file, FlockOperation::LockExclusive).map_err(failed)?;
    Ok(file)
}

/// Copies beside the destination and renames, so that a proxy that watches it never sees half a
/// module.
fn put(built: &Path, output: &Path) -> Result<PathBuf, BuildError> {
    let file = output.file_name().unwrap_or_default();
    let folder = output.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(BuildError::file(folder))?;
    let part = folder.join(format!(".{}.{}", file.to_string_lossy(), std::process::id()));
    fs::copy(built, &part).map_err(BuildError::file(&part))?;
    fs::rename(&part, output).map_err(BuildError::file(output))?;
    Ok(output.to_owned())
}
