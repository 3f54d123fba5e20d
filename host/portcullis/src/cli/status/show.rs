//! Proxies as text, those that say the same together, and as one versioned JSON object.

use serde_json::{Value, json};

use super::account::{Account, Proxy, Standing};
use crate::diagnose::Problem;
use crate::term::{Paint, Style, clean, table};

/// What several proxies have in common, and a line for each.
struct Group {
    headline: String,
    fine: bool,
    common: String,
    lines: Vec<Vec<String>>,
}

/// Several lines.
pub fn text(proxies: &[Proxy], style: Style) -> String {
    let mut groups: Vec<Group> = Vec::new();
    for proxy in proxies {
        let group = group(proxy);
        let same = |known: &&mut Group| {
            (&known.headline, &known.common) == (&group.headline, &group.common)
        };
        match groups.iter_mut().find(same) {
            Some(known) => known.lines.extend(group.lines),
            None => groups.push(group),
        }
    }
    let shown: Vec<String> = groups.iter().map(|group| group.text(style)).collect();
    shown.join("\n")
}

/// With the whole `/status` of each proxy.
pub fn json(proxies: &[Proxy], behind: &[Problem]) -> Value {
    let proxy = |proxy: &Proxy| {
        let (status, problem) = match &proxy.account {
            Ok((_, whole)) => (Some(whole), None),
            Err(problem) => (None, Some(problem)),
        };
        json!({"name": proxy.name, "fine": proxy.is_fine(), "status": status, "problem": problem})
    };
    json!({
        "schema": "portcullis.proxies/1",
        "proxies": proxies.iter().map(proxy).collect::<Vec<_>>(),
        "problems": behind,
    })
}

impl Group {
    fn text(&self, style: Style) -> String {
        let count = match self.lines.len() {
            1 => "1 proxy".to_owned(),
            number => format!("{number} proxies"),
        };
        let paint = if self.fine { Paint::Good } else { Paint::Error };
        let head = style.paint(paint, &format!("{count}: {}", self.headline));
        format!("{head}\n{}{}", indented(&table(&self.lines)), self.common)
    }
}

fn group(proxy: &Proxy) -> Group {
    match &proxy.account {
        Ok((account, _)) => Group {
            headline: headline(account),
            fine: account.is_fine(),
            common: common(account),
            lines: vec![vec![line(&proxy.name), own(account)]],
        },
        Err(problem) => Group {
            headline: "unknown".to_owned(),
            fine: false,
            common: String::new(),
            lines: vec![vec![line(&proxy.name), line(&problem.to_string())]],
        },
    }
}

fn headline(account: &Account) -> String {
    let mut words = vec![if account.ready { "ready" } else { "not ready" }.to_owned()];
    let count =
        |standing| account.sources.iter().filter(|source| source.standing() == standing).count();
    for standing in [Standing::Refused, Standing::Waiting, Standing::Held] {
        match count(standing) {
            0 => {}
            number => words.push(format!("{number} {standing}")),
        }
    }
    if account.stale_since().is_some() {
        words.push("changes may go unseen".to_owned());
    }
    words.join(", ")
}

/// What no other proxy need have in common with it.
fn own(account: &Account) -> String {
    let mut words = vec![format!("generation {}", account.generation)];
    words.extend(account.since.iter().map(|since| format!("since {since}")));
    let stale = account.stale_since();
    words.extend(stale.map(|since| format!("without news since {since}")));
    let restored = account.restored_from.iter();
    words.extend(restored.map(|stored| format!("from disk, stored {stored}")));
    line(&words.join(", "))
}

fn common(account: &Account) -> String {
    let mut text = String::new();
    let sources = account.sources.iter().map(|source| {
        let version = match &source.resource_version {
            Some(version) => format!("resourceVersion {version}"),
            None => format!("version {}", source.version),
        };
        let serves = match (source.standing(), &source.accepted_version) {
            (Standing::Live, _) => "",
            (_, Some(_)) => "; a version before it serves",
            (_, None) => "; nothing of it serves",
        };
        let cells = [&source.name, &source.standing().to_string(), &format!("{version}{serves}")];
        cells.map(|cell| line(cell)).to_vec()
    });
    let sources: Vec<Vec<String>> = sources.collect();
    for (row, source) in table(&sources).lines().zip(&account.sources) {
        text.push_str(&indented(row));
        for problem in &source.problems {
            text.push_str(&format!("    {}\n", line(&problem.to_string())));
        }
    }
    let filters = account.filters().iter();
    let filters =
        filters.map(|filter| vec![line(&format!("filter {}", filter.name)), line(&filter.state)]);
    text.push_str(&indented(&table(&filters.collect::<Vec<_>>())));
    let namespaces = account.kubernetes.iter().flat_map(|cluster| &cluster.namespaces);
    let problems = namespaces.filter_map(|namespace| namespace.problem.as_ref());
    for problem in account.problems.iter().chain(problems) {
        text.push_str(&indented(&line(&problem.to_string())));
    }
    if !account.needs_restart.is_empty() {
        let settings = line(&account.needs_restart.join(", "));
        text.push_str(&indented(&format!("changed, and needs a restart: {settings}")));
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// What comes from outside forges no lines.
fn line(text: &str) -> String {
    clean(text).replace('\n', " ")
}
