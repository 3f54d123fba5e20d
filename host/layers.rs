//! The import law of ARCHITECTURE.md, checked on the sources of one ring: the order of the `mod` lines in `lib.rs`
//! is the order of the layers, and a module imports only what is declared below it.

use std::fs;
use std::path::{Path, PathBuf};

/// `(word, modules that may name it)`: a word such as `hyper::` may stand only in the files of those modules.
pub type Reserved = &'static [(&'static str, &'static [&'static str])];

const WARN_LINES: usize = 400;
const MAX_LINES: usize = 600;

/// Every breach of the law in the ring whose manifest lies in `ring`, one sentence each.
pub fn breaches(ring: &str, reserved: Reserved) -> Vec<String> {
    let src = Path::new(ring).join("src");
    let order = layers(&read(&src.join("lib.rs")));
    let mut found = Vec::new();
    for file in sources(&src) {
        let inside = file.strip_prefix(&src).unwrap();
        let module =
            inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        let text = read(&file);
        let at = inside.display();
        match text.lines().count() {
            n if n > MAX_LINES => found.push(format!("{at} has {n} lines, more than {MAX_LINES}")),
            n if n > WARN_LINES => println!("warning: {at} has {n} lines, more than {WARN_LINES}"),
            _ => {}
        }
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !is_comment(line)) {
            for name in crate_paths(line) {
                let here = order.iter().position(|layer| *layer == module);
                let there = order.iter().position(|layer| *layer == name);
                if let (Some(here), Some(there)) = (here, there)
                    && there < here
                {
                    found.push(format!(
                        "{at}:{} imports `{name}`, which is above `{module}`",
                        number + 1
                    ));
                }
            }
            for (word, allowed) in reserved {
                if line.contains(word) && !allowed.contains(&module.as_str()) {
                    found.push(format!(
                        "{at}:{} names `{word}`, which is reserved for {allowed:?}",
                        number + 1
                    ));
                }
            }
        }
    }
    found
}

fn layers(lib: &str) -> Vec<String> {
    lib.lines()
        .map(|line| line.trim_start_matches("pub(crate) ").trim_start_matches("pub "))
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned))
        .collect()
}

/// The first path segment after each `crate::`, groups (`crate::{a::B, c}`) included.
fn crate_paths(line: &str) -> Vec<String> {
    let ident = |text: &str| {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    let mut names = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group.split(',').map(|part| ident(part.trim()))),
            None => names.push(ident(rest)),
        }
    }
    names
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
