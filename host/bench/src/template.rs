//! Configurations of proxies as files that people can read: `${word}` is replaced, `@if WORD`, `@else`, `@for LIST` and `@end` stand on
//! lines of their own. A word that nobody gave is an error, so that no configuration is written half.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

/// Words by name.
pub type Words = BTreeMap<String, String>;

/// What a template is filled with.
#[derive(Clone, Debug, Default)]
pub struct Filling {
    /// For `${word}`.
    pub words: Words,
    /// Those that hold for `@if`.
    pub flags: BTreeSet<String>,
    /// For `@for`: the words of each turn.
    pub lists: BTreeMap<String, Vec<Words>>,
}

impl Filling {
    /// Adds a word.
    pub fn word(&mut self, name: &str, value: impl ToString) -> &mut Filling {
        self.words.insert(name.to_owned(), value.to_string());
        self
    }

    /// Adds a flag.
    pub fn flag(&mut self, name: &str) -> &mut Filling {
        self.flags.insert(name.to_owned());
        self
    }

    /// Adds a list.
    pub fn list(&mut self, name: &str, turns: Vec<Words>) -> &mut Filling {
        self.lists.insert(name.to_owned(), turns);
        self
    }
}

/// Fills a template.
///
/// # Errors
/// A word or list is missing, or a block does not end.
pub fn fill(template: &str, filling: &Filling) -> Result<String> {
    let lines: Vec<&str> = template.lines().collect();
    let mut text = String::new();
    block(&lines, filling, &filling.words, &mut text)?;
    Ok(text)
}

fn block(lines: &[&str], filling: &Filling, words: &Words, text: &mut String) -> Result<()> {
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let Some(directive) = line.trim_start().strip_prefix('@') else {
            text.push_str(&replaced(line, words)?);
            text.push('\n');
            at += 1;
            continue;
        };
        let (alternative, end) = extent(lines, at)?;
        let inside = &lines[at + 1..alternative.unwrap_or(end)];
        match directive.split_once(' ') {
            Some(("if", flag)) if filling.flags.contains(flag) => {
                block(inside, filling, words, text)?;
            }
            Some(("if", _)) => {
                let otherwise = alternative.map_or(&[][..], |at| &lines[at + 1..end]);
                block(otherwise, filling, words, text)?;
            }
            Some(("for", list)) => {
                let turns = filling.lists.get(list).with_context(|| format!("no list {list}"))?;
                for turn in turns {
                    let mut all = words.clone();
                    all.extend(turn.clone());
                    block(inside, filling, &all, text)?;
                }
            }
            _ => bail!("@{directive} is no directive"),
        }
        at = end + 1;
    }
    Ok(())
}

/// Where the block that begins at `start` has its `@else`, and its `@end`.
fn extent(lines: &[&str], start: usize) -> Result<(Option<usize>, usize)> {
    let mut depth = 0;
    let mut alternative = None;
    for (at, line) in lines.iter().enumerate().skip(start) {
        match line.trim() {
            line if line.starts_with("@if ") || line.starts_with("@for ") => depth += 1,
            "@else" if depth == 1 => alternative = Some(at),
            "@end" if depth == 1 => return Ok((alternative, at)),
            "@end" => depth -= 1,
            _ => {}
        }
        ensure!(depth > 0, "{} begins no block", line.trim());
    }
    bail!("{} has no @end", lines[start].trim())
}

/// The text with every `${word}` replaced.
///
/// # Errors
/// A word is missing.
pub fn replaced(text: &str, words: &Words) -> Result<String> {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').with_context(|| format!("no }} in {text}"))?;
        done.push_str(before);
        done.push_str(words.get(name).with_context(|| format!("no word {name}"))?);
        rest = after;
    }
    done.push_str(rest);
    Ok(done)
}
