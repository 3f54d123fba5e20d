//! How a guest is compiled, by what it is written in: Rust with our own builder, Go, C and AssemblyScript with the compilers
//! that their own people use, text modules without any.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use portcullis_build::{Options, Target, build};

use crate::place;

/// What a guest is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    /// A folder with a `Cargo.toml`.
    Rust,
    /// A folder with a `go.mod`.
    Go,
    /// A folder with a `package.json`; `index.ts` is the guest.
    AssemblyScript,
    /// A file.
    C,
    /// A module as text; a file.
    Text,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The module is where it was wanted.
    Compiled,
    /// Which one is missing, and how to get it.
    NoCompiler(String),
}

impl Language {
    pub(super) fn of(path: &Path) -> Option<Language> {
        Language::of_folder(path).or_else(|| Language::of_file(path))
    }

    pub(super) fn of_folder(folder: &Path) -> Option<Language> {
        let marks = [
            ("Cargo.toml", Language::Rust),
            ("go.mod", Language::Go),
            ("package.json", Language::AssemblyScript),
        ];
        marks.into_iter().find(|(mark, _)| folder.join(mark).is_file()).map(|(_, found)| found)
    }

    pub(super) fn of_file(file: &Path) -> Option<Language> {
        match file.extension()?.to_str()? {
            "wat" if file.is_file() => Some(Language::Text),
            "c" if file.is_file() => Some(Language::C),
            _ => None,
        }
    }

    /// Compiles into `output`.
    ///
    /// # Errors
    /// It does not compile.
    pub(super) fn compile(
        self,
        source: &Path,
        output: &Path,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Outcome> {
        match self {
            Language::Rust => rust(source, output, progress),
            Language::Go => go(source, output, progress),
            Language::AssemblyScript => assembly_script(source, output, progress),
            Language::C => c(source, output, progress),
            Language::Text => {
                fs::write(output, wat::parse_file(source)?)?;
                Ok(Outcome::Compiled)
            }
        }
    }
}

fn rust(source: &Path, output: &Path, progress: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let mut options = Options::new(source);
    options.target = Target::Wasip1;
    options.target_dir = Some(place::target().join("wasm"));
    options.output = Some(output.to_owned());
    build(&options, progress)?;
    Ok(Outcome::Compiled)
}

fn go(source: &Path, output: &Path, progress: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let mut compiler = Command::new("go");
    compiler.current_dir(source).env("GOOS", "wasip1").env("GOARCH", "wasm");
    compiler.args(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s", "-o"]);
    compiler.arg(output).arg(".");
    progress("compiling the guest in Go");
    ran(&mut compiler, "Go 1.24 or later compiles it")
}

fn c(source: &Path, output: &Path, progress: &mut dyn FnMut(&str)) -> Result<Outcome> {
    const HOW: &str = "apt-get install clang lld wasi-libc libclang-rt-dev-wasm32";
    if !Path::new("/usr/include/wasm32-wasi").is_dir() {
        return Ok(Outcome::NoCompiler(format!("no C library for Wasm here: {HOW}")));
    }
    let mut compiler = Command::new("clang");
    compiler.args(["--target=wasm32-wasi", "-mexec-model=reactor", "-O2", "-Wall", "-Werror"]);
    compiler.arg("-o").arg(output).arg(source);
    progress("compiling the guest in C");
    ran(&mut compiler, HOW)
}

fn assembly_script(
    source: &Path,
    output: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Outcome> {
    let folder = place::kept().join("assemblyscript");
    fs::create_dir_all(&folder)?;
    for file in ["package.json", "package-lock.json", "index.ts"] {
        fs::copy(source.join(file), folder.join(file)).context(file)?;
    }
    let asc = folder.join("node_modules/assemblyscript/bin/asc");
    if !asc.is_file() {
        progress("installing AssemblyScript and proxy-runtime with npm");
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
        let installed = ran(&mut npm, "Node.js brings npm")?;
        if let Outcome::NoCompiler(_) = installed {
            return Ok(installed);
        }
    }
    let mut compiler = Command::new("node");
    compiler.current_dir(&folder).arg(asc);
    // proxy-runtime's own `abort` logs; without it the module would import one that hosts do not have.
    compiler.args(["index.ts", "--optimize", "--use", "abort=abort_proc_exit", "-b"]).arg(output);
    progress("compiling the guest in AssemblyScript");
    ran(&mut compiler, "Node.js runs its compiler")
}

/// Runs a compiler to its end.
fn ran(command: &mut Command, how: &str) -> Result<Outcome> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Outcome::NoCompiler(format!("no {program} here: {how}")));
        }
        Err(error) => return Err(error).context(program),
    };
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{program} fails:\n{}", String::from_utf8_lossy(&said).trim_end());
    }
    Ok(Outcome::Compiled)
}
