//! The registry of codes and its pages.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use portcullis::diagnose::Code;
use regex::Regex;

use super::golden::transcript;

const RING: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let pages: BTreeSet<String> = fs::read_dir(Path::new(RING).join("src/diagnose/explain"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let codes: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{code}.md")).collect();
    assert_eq!(pages, codes);
}

#[test]
fn a_page_has_a_heading_an_example_and_something_to_do() {
    for code in Code::ALL {
        let page = code.page();
        assert!(page.starts_with(&format!("# {code}: {}\n\n", code.summary())), "{page}");
        assert_eq!(page.matches("```").count(), 2, "{page}");
        assert!((8..=20).contains(&page.lines().count()), "{page}");
        let (_, cure) = page.rsplit_once("```\n\n").unwrap();
        assert!(cure.trim().len() > 40, "{page}");
    }
}

#[test]
fn every_code_that_the_sources_name_is_registered() {
    let code = Regex::new(r#""(P\d{4})"|Code::(P\d{4})"#).unwrap();
    let mut named = BTreeSet::new();
    for ring in ["vm", "proxy", "portcullis"] {
        collect(&Path::new(RING).parent().unwrap().join(ring).join("src"), &code, &mut named);
    }
    assert!(named.len() > 20, "{named:?}");
    let unknown: Vec<_> = named.iter().filter(|name| name.parse::<Code>().is_err()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn collect(folder: &Path, code: &Regex, named: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, code, named);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let (text, _) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
            let groups = |found: regex::Captures<'_>| {
                found.get(1).or_else(|| found.get(2)).map(|name| name.as_str().to_owned())
            };
            named.extend(code.captures_iter(text).filter_map(groups));
        }
    }
}

#[test]
fn explain_shows_a_page_the_list_and_the_nearest_code() {
    transcript("explain");
}
