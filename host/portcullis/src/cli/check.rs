//! `portcullis check`: parses, resolves, inspects modules and reports every problem. Serves nothing; with `--rehearse` it
//! also starts and configures the filters, off to the side.

use std::path::PathBuf;
use std::sync::Arc;

use portcullis_proxy::snapshot::Filter;
use portcullis_proxy::{Options, Proxy, Refusal, Snapshot};
use portcullis_vm::Engine;
use serde_json::json;

use super::{Exit, Outcome};
use crate::control::{Candidate, plan_all, refusal_problem};
use crate::diagnose::{Code, Problem, Report, tally};
use crate::fetch::{Store, open_cache};
use crate::plan::{Note, Planned};
use crate::source::Files;
use crate::term::{Paint, Term};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file or folder of documents; may be repeated
    #[arg(short = 'c', long = "config", value_name = "PATH", required = true)]
    pub config: Vec<PathBuf>,
    /// Which Proxy document, where there are several
    #[arg(long, value_name = "NAME")]
    pub proxy: Option<String>,
    /// Also start and configure each filter
    #[arg(long)]
    pub rehearse: bool,
    /// Warnings end with exit code 79
    #[arg(long)]
    pub strict: bool,
}

/// Checks, and says what is wrong.
pub fn run(args: &Args, term: &Term) -> Outcome {
    let engine = match Engine::new() {
        Ok(engine) => engine,
        Err(error) => {
            let problem = Problem::new(Code::P0901, "the Wasm engine does not start");
            return Outcome::failed(Exit::Failed, problem.because(error.to_string()));
        }
    };
    let (objects, lost) = Files::new(args.config.clone()).read();
    if let Some(error) = lost.into_iter().next() {
        let problem = Problem::new(Code::P0401, format!("cannot read {}", error.path));
        let problem = problem.because(error.problem).hint("name a file or a folder that is there");
        return Outcome::failed(Exit::Invalid, problem);
    }
    // Without a cache everything is compiled anew, which is slower and no less right.
    let store = Arc::new(Store::new(engine.clone(), open_cache(None).ok()));
    let candidates: Vec<Arc<Candidate>> =
        objects.into_iter().map(|object| Arc::new(Candidate::new(object, store.clone()))).collect();
    let mut planned = plan_all(&candidates, args.proxy.as_deref());
    while planned.problems.iter().any(|problem| problem.code.is_passing()) {
        store.settle();
        planned = plan_all(&candidates, args.proxy.as_deref());
    }
    let unreadable: Vec<Problem> = candidates.iter().filter_map(|one| one.unreadable()).collect();
    if !unreadable.is_empty() {
        // Whether there is a Proxy cannot be said while a file is missing.
        planned.problems.retain(|problem| problem.code != Code::P0114 || args.proxy.is_some());
        planned.problems.splice(0..0, unreadable);
    }
    if args.rehearse {
        let refused = rehearse(&engine, &planned, &candidates);
        planned.problems.extend(refused);
    }
    for note in &planned.notes {
        let place = note.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        term.detail(&format!("note: {place}{}: {}", note.object, note.text));
    }
    report(args, &planned, term)
}

fn report(args: &Args, planned: &Planned, term: &Term) -> Outcome {
    let problems = &planned.problems;
    let exit = match (problems.iter().any(Problem::is_error), problems.is_empty()) {
        (true, _) => Exit::Invalid,
        (false, false) if args.strict => Exit::Warnings,
        _ => Exit::Fine,
    };
    let filters = planned.snapshot.as_ref().map_or(0, |snapshot| snapshot.filters.len());
    let text = match tally(problems) {
        None => {
            let count = |number: usize, noun: &str| match number {
                1 => format!("1 {noun}"),
                _ => format!("{number} {noun}s"),
            };
            let (objects, filters) =
                (count(planned.objects.len(), "object"), count(filters, "filter"));
            term.out.paint(Paint::Good, &format!("{objects}, {filters}: fine"))
        }
        Some(tally) => {
            let shown: Vec<String> =
                problems.iter().map(|problem| problem.render(term.out)).collect();
            let first = problems.first().map_or(Code::P0901, |problem| problem.code);
            let more = format!("`portcullis explain {first}` says more");
            format!("{}\n{tally} – {more}", shown.join("\n"))
        }
    };
    let mut data = json!(Report::new("portcullis.check/1", problems));
    data["objects"] = planned.objects.len().into();
    data["filters"] = filters.into();
    let note = |note: &Note| json!({"object": note.object, "place": note.place, "text": note.text});
    data["notes"] = planned.notes.iter().map(note).collect();
    Outcome { exit, text, data: Some(data), ..Outcome::default() }
}

/// Starts and configures each filter of the snapshot; shared state is thrown away, callouts are never sent.
fn rehearse(engine: &Engine, planned: &Planned, candidates: &[Arc<Candidate>]) -> Vec<Problem> {
    let Some(snapshot) = &planned.snapshot else { return Vec::new() };
    let options = Options::new(1, engine.clone());
    let stage = match Proxy::start(options, Snapshot::default()) {
        Ok(stage) => stage,
        Err(refusal) => {
            let problem = Problem::new(Code::P0901, "cannot rehearse");
            return vec![problem.because(refusal.to_string())];
        }
    };
    let problem = |filter: &Arc<Filter>| {
        let trap = stage.rehearse(filter).err()?;
        let refusal = Refusal::Filter { name: filter.name.clone(), trap };
        let problem = refusal_problem(planned, &refusal);
        let problem = match problem.code {
            Code::P0206 => problem.hint("look at its limits, or at the filter itself"),
            _ => problem,
        };
        let source = problem.source.and_then(|source| candidates.get(source));
        match source.and_then(|source| source.place(&problem)) {
            Some(place) => Some(problem.at(place)),
            None => Some(problem),
        }
    };
    snapshot.filters.iter().filter_map(problem).collect()
}
