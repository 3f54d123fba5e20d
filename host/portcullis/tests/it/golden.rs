//! Golden folders: expected texts beside their inputs. `BLESS=1` rewrites what is expected.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// `tests/golden/FOLDER`
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Compares with the file, or writes it.
pub fn compare(file: &Path, found: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(file, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    assert!(
        expected == found,
        "{} differs; BLESS=1 rewrites it\n--- expected\n{expected}\n--- found\n{found}",
        file.display()
    );
}

/// A copy of a golden folder in which every `X.wat` has an `X.wasm` beside it.
pub fn stage(name: &str) -> TempDir {
    let stage = TempDir::new().unwrap();
    copy(&folder(name), stage.path());
    stage
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
            continue;
        }
        fs::copy(&path, &target).unwrap();
        if path.extension().is_some_and(|ending| ending == "wat") {
            fs::write(target.with_extension("wasm"), wat::parse_file(&path).unwrap()).unwrap();
        }
    }
}

/// Runs the commands of `transcript.txt` (lines that begin with `$ portcullis `) inside a copy of the folder, and compares
/// everything they print: stdout, then stderr with `! ` before each line, then the exit code if it is not 0.
pub fn transcript(name: &str) {
    let stage = stage(name);
    let file = folder(name).join("transcript.txt");
    let commands = fs::read_to_string(&file).unwrap();
    let mut found = String::new();
    for line in commands.lines().filter(|line| line.starts_with("$ portcullis ")) {
        if !found.is_empty() {
            found.push('\n');
        }
        found += &format!("{line}\n{}", run(stage.path(), line));
    }
    assert!(!found.is_empty(), "{} has no command", file.display());
    compare(&file, &found);
}

fn run(folder: &Path, line: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(line.split_whitespace().skip(2))
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join(".cache"))
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        text += format!("! {line}").trim_end();
        text.push('\n');
    }
    match output.status.code() {
        Some(0) => text,
        code => format!("{text}exit {}\n", code.unwrap()),
    }
}
