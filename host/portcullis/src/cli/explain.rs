//! `portcullis explain`: the page of a code, or the list of all codes. Works offline.

use serde_json::json;

use super::Outcome;
use crate::diagnose::{Code, nearest};
use crate::term::{Paint, Term, table};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Such as P0105; all codes if absent
    #[arg(value_parser = code)]
    pub code: Option<Code>,
}

fn code(text: &str) -> Result<Code, String> {
    text.parse().map_err(|()| {
        let known = Code::ALL.iter().map(|code| code.as_str());
        match nearest(text, known) {
            Some(near) => format!("there is no such code, did you mean {near}?"),
            None => "there is no such code; `portcullis explain` lists all".to_owned(),
        }
    })
}

/// Shows the page, or the list.
pub fn run(args: &Args, term: &Term) -> Outcome {
    match args.code {
        Some(code) => page(code, term),
        None => list(),
    }
}

fn page(code: Code, term: &Term) -> Outcome {
    let (heading, rest) = code.page().split_once('\n').unwrap_or((code.page(), ""));
    let heading = term.out.paint(Paint::Strong, heading.trim_start_matches("# "));
    let data = json!({
        "schema": "portcullis.explain/1",
        "codes": [{"code": code, "summary": code.summary(), "page": code.page()}],
    });
    Outcome::fine(format!("{heading}\n{rest}"), data)
}

fn list() -> Outcome {
    let row = |code: &Code| vec![code.to_string(), code.summary().to_owned()];
    let rows: Vec<_> = Code::ALL.iter().map(row).collect();
    let entry = |code: &Code| json!({"code": code, "summary": code.summary()});
    let codes: Vec<_> = Code::ALL.iter().map(entry).collect();
    Outcome::fine(table(&rows), json!({"schema": "portcullis.explain/1", "codes": codes}))
}
