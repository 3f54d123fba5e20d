//! Finds a Rust toolchain that compiles to Wasm, or gets one, in this order: a compiler that has
//! the target; `rustup target add`; a compiler that can build the standard library from its
//! source (Debian's packages bring both); those packages, installed by root on a Debian system.
//!
//! It never installs without saying so first, and nothing at all when told not to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::{command, find, line, output, within};
use crate::error::BuildError;
use crate::{Install, Target};

const RUSTUP_LIMIT: Duration = Duration::from_secs(20);
/// Where Debian's `wasi-libc` puts the C library that std for wasip1 links.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi";

/// A compiler, and what it lacks.
#[derive(Debug)]
pub(crate) struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// As rustc prints it.
    pub(crate) version: String,
    std: Std,
}

/// Where the standard library for the target comes from.
#[derive(Debug)]
enum Std {
    Installed,
    /// Compiled from source, linked with this linker.
    Source {
        linker: PathBuf,
    },
}

/// The search for one target: what it may do, and what it has tried.
pub(crate) struct Search<'a> {
    target: Target,
    install: Install,
    /// The target folder; remembers there that rustup's server did not answer.
    folder: &'a Path,
    tried: Vec<String>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(target: Target, install: Install, folder: &'a Path) -> Search<'a> {
        Search { target, install, folder, tried: Vec::new() }
    }

    /// Runs the search. `progress` hears of every installation before it starts.
    pub(crate) fn run(mut self, progress: &mut dyn FnMut(&str)) -> Result<Toolchain, BuildError> {
        if let Some(found) = self.installed() {
            return Ok(found);
        }
        if self.rustup(progress)
            && let Some(found) = self.installed()
        {
            return Ok(found);
        }
        if let Some(found) = self.source() {
            return Ok(found);
        }
        if self.debian(progress)
            && let Some(found) = self.source()
        {
            return Ok(found);
        }
        Err(BuildError::Toolchain {
            target: self.target.triple(),
            tried: self.tried,
            remedies: vec![
                format!("rustup target add {}", self.target.triple()),
                format!("apt-get install {}   (Debian)", packages(self.target).join(" ")),
            ],
        })
    }

    /// A compiler whose standard library for the target is there.
    fn installed(&mut self) -> Option<Toolchain> {
        let cargo = find("cargo")?;
        let triple = self.target.triple();
        let rustc = compilers().into_iter().find(|rustc| {
            let libraries =
                line(command(rustc).args(["--print=target-libdir", "--target", triple]));
            libraries.is_some_and(|folder| holds_core(Path::new(&folder)))
        })?;
        Toolchain::new(cargo, rustc, Std::Installed)
    }

    /// Asks rustup for the target; whether it came.
    fn rustup(&mut self, progress: &mut dyn FnMut(&str)) -> bool {
        let memo = self.folder.join("rustup-did-not-answer");
        let Some(rustup) = find("rustup") else {
            self.tried.push("rustup: not there".to_owned());
            return false;
        };
        if self.install == Install::Refused || memo.exists() {
            self.tried.push("rustup: has not installed the target".to_owned());
            return false;
        }
        let triple = self.target.triple();
        progress(&format!("installing: rustup target add {triple} (at most 20 s)"));
        match within(command(rustup).args(["target", "add", triple]), RUSTUP_LIMIT) {
            Ok(()) => true,
            Err(problem) => {
                progress(&format!("rustup target add {triple}: {problem}"));
                self.tried.push(format!("rustup target add {triple}: {problem}"));
                // Only saves the wait next time: without it the search still ends the same way.
                let _ = fs::write(memo, "delete this file to ask rustup again\n");
                false
            }
        }
    }

    /// A compiler with the standard library's source beside it, and what linking it takes.
    fn source(&mut self) -> Option<Toolchain> {
        let Some(cargo) = find("cargo").or_else(|| find("cargo-web")) else {
            self.tried.push("cargo: not there".to_owned());
            return None;
        };
        if self.target == Target::Wasip1 && !Path::new(WASI_LIBC).join("libc.a").is_file() {
            self.tried.push(format!("{WASI_LIBC}/libc.a (Debian's wasi-libc): not there"));
            return None;
        }
        let Some(linker) = linker() else {
            self.tried.push("wasm-ld or rust-lld: not there".to_owned());
            return None;
        };
        let rustc = compilers().into_iter().find(|rustc| {
            sysroot(rustc).is_some_and(|root| {
                root.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file()
            })
        });
        let Some(rustc) = rustc else {
            self.tried.push("a rustc with the standard library's source: not there".to_owned());
            return None;
        };
        Toolchain::new(cargo, rustc, Std::Source { linker })
    }

    /// Installs Debian's packages; whether that worked.
    fn debian(&mut self, progress: &mut dyn FnMut(&str)) -> bool {
        let apt = Path::new("/usr/bin/apt-get");
        if self.install == Install::Refused
            || !apt.exists()
            || !rustix::process::geteuid().is_root()
        {
            self.tried.push("Debian's packages: not installed by us".to_owned());
            return false;
        }
        let packages = packages(self.target);
        progress(&format!("installing: apt-get install {}", packages.join(" ")));
        if let Err(problem) = apt_get(apt, &["update"]).and_then(|()| {
            apt_get(apt, &[&["install", "--no-install-recommends"], &*packages].concat())
        }) {
            self.tried.push(format!("apt-get install {}: {problem}", packages.join(" ")));
            return false;
        }
        true
    }
}

impl Toolchain {
    fn new(cargo: PathBuf, rustc: PathBuf, std: Std) -> Option<Toolchain> {
        let version = line(command(&rustc).arg("--version"))?;
        Some(Toolchain { cargo, rustc, version, std })
    }

    /// Whether the first build has the standard library to compile as well.
    pub(crate) fn compiles_std(&self) -> bool {
        matches!(self.std, Std::Source { .. })
    }

    /// A cargo command that compiles to `target` with this toolchain: the subcommand comes first,
    /// then whatever this toolchain needs.
    pub(crate) fn cargo(&self, subcommand: &str, target: Target, remap: &[String]) -> Command {
        let mut cargo = command(&self.cargo);
        cargo.arg(subcommand).args(["--target", target.triple()]).env("RUSTC", &self.rustc);
        let mut flags: Vec<String> = remap.to_vec();
        if let Std::Source { linker } = &self.std {
            let name = target.triple().to_uppercase().replace('-', "_");
            cargo
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC_BOOTSTRAP", "1")
                .env(format!("CARGO_TARGET_{name}_LINKER"), linker);
            if target == Target::Wasip1 {
                flags.extend(["-Clink-self-contained=no".to_owned(), format!("-L{WASI_LIBC}")]);
            }
        }
        // The encoded form, since paths may hold blanks.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        cargo
    }
}

/// The compilers to look at: the one in `PATH`, then the system's.
fn compilers() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = find("rustc").into_iter().collect();
    let system = PathBuf::from("/usr/bin/rustc");
    if system.is_file() && !found.contains(&system) {
        found.push(system);
    }
    found
}

fn holds_core(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    line(command(rustc).arg("--print=sysroot")).map(PathBuf::from)
}

/// LLVM's own linker, or the one that rustup's toolchains bring.
fn linker() -> Option<PathBuf> {
    find("wasm-ld").or_else(|| {
        compilers().iter().find_map(|rustc| {
            let hosts = fs::read_dir(sysroot(rustc)?.join("lib/rustlib")).ok()?;
            hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|path| path.is_file())
        })
    })
}

/// What to install on Debian, leaving out what the machine has.
fn packages(target: Target) -> Vec<&'static str> {
    let mut packages = vec!["rustc-web", "rust-web-src"];
    if target == Target::Wasip1 {
        packages.push("wasi-libc");
    }
    if linker().is_none() {
        packages.push("lld");
    }
    if find("cargo").is_none() {
        packages.push("cargo-web");
    }
    packages
}

fn apt_get(apt: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut run = command(apt);
    run.env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::http::Timeout=30"])
        .args(arguments);
    let output = output(&mut run).map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(stderr.lines().find(|line| line.starts_with("E:")).unwrap_or("failed").to_owned())
}
