//! What can go wrong between a filter's folder and its module. Messages carry what the reader
//! needs to go on: the compiler's own words, or the commands to run.

use std::path::PathBuf;

/// Why there is no module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The folder holds no crate that can become a filter.
    #[error("{path}: {problem}")]
    Manifest {
        /// The folder or manifest that was asked for.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing on this machine compiles to the target, and nothing could be installed.
    #[error(
        "no Rust toolchain here compiles to {target}\n{}\ninstall one of these:\n{}",
        bullets(tried),
        bullets(remedies)
    )]
    Toolchain {
        /// The target's name.
        target: &'static str,
        /// What was looked at, and why it would not do.
        tried: Vec<String>,
        /// Commands that put it right.
        remedies: Vec<String>,
    },
    /// Cargo ran and refused.
    #[error("{package} does not compile:\n{stderr}")]
    Compile {
        /// The crate.
        package: String,
        /// Everything that cargo printed.
        stderr: String,
    },
    /// It compiled, but the result is no Proxy-Wasm module that hosts accept.
    #[error("{path}: {problem}")]
    Module {
        /// The compiled file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A program could not be run.
    #[error("cannot run {program}: {source}")]
    Program {
        /// Its name or path.
        program: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl BuildError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> BuildError {
        let path = path.into();
        move |source| BuildError::File { path, source }
    }
}

fn bullets(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  - {line}")).collect::<Vec<_>>().join("\n")
}
