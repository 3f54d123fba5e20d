//! Problems that are found by trying: what a rehearsal or the data plane refused, in the vocabulary of `diagnose`.

use std::io;
use std::sync::Arc;

use portcullis_proxy::Refusal;
use portcullis_vm::{Trap, TrapReason};

use crate::diagnose::{Code, Place, Problem};
use crate::plan::Planned;
use crate::spec::{self, Home};

const SHOWN_FRAMES: usize = 3;

/// A filter that did not start, or did not take its configuration.
fn filter_problem(planned: &Planned, filter: &str, trap: &Trap) -> Problem {
    let problem = match trap.reason {
        TrapReason::Refused => {
            Problem::new(Code::P0205, format!("filter {filter} refused its configuration"))
                .hint("what the filter logged says what it expects; see its README")
        }
        _ => Problem::new(Code::P0206, format!("filter {filter} failed while it started"))
            .hint("try it apart from traffic: portcullis check --rehearse"),
    };
    let frames = trap.backtrace.iter().take(SHOWN_FRAMES).map(|frame| format!("; at {frame}"));
    let cause: String = std::iter::once(trap.message.clone()).chain(frames).collect();
    blame(planned, &["WasmFilter", "WasmPlugin"], filter, problem.because(cause))
}

/// What the data plane did not take.
pub fn refusal_problem(planned: &Planned, refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::Filter { name, trap } => filter_problem(planned, name, trap),
        Refusal::Listener { name, address, problem } => {
            let title = format!("listener {name} cannot listen on {address}");
            let problem = Problem::new(Code::P0501, title)
                .because(problem.to_string())
                .hint(listener_hint(problem.kind()));
            blame_proxy(planned, problem)
        }
        Refusal::AccessLog { path, problem } => {
            let title = format!("the access log {path} cannot be written");
            let hint = "a file in a folder that exists and that this user may write to, or stdout";
            blame_proxy(planned, Problem::new(Code::P0502, title).because(problem).hint(hint))
        }
        other => Problem::new(Code::P0901, "the data plane did not take the configuration")
            .because(other.to_string()),
    }
}

fn listener_hint(problem: io::ErrorKind) -> &'static str {
    match problem {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it, or choose another port"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose a higher one",
        _ => "listen on an address of this machine, such as 127.0.0.1 or 0.0.0.0",
    }
}

fn blame_proxy(planned: &Planned, problem: Problem) -> Problem {
    let proxy = planned.process.as_ref().map_or("", |process| process.proxy.as_str());
    blame(planned, &["Proxy"], proxy, problem)
}

/// Lays a problem at the door of the source that defines `name` (`namespace/name`).
fn blame(planned: &Planned, kinds: &[&str], name: &str, problem: Problem) -> Problem {
    let object = planned.objects.iter().find(|object| {
        kinds.contains(&object.kind.as_str())
            && format!("{}/{}", object.namespace, object.name) == name
    });
    match object {
        Some(object) => problem.of(format!("{} {name}", object.kind)).in_source(object.source),
        None => problem,
    }
}

/// Where in `text`, the documents of `file`, the object stands that `problem` is about: the field that a trial failed
/// over, as far as it can be told.
pub fn place(problem: &Problem, file: &Arc<str>, text: &Arc<str>, home: &Home) -> Option<Place> {
    let object = problem.object.as_deref()?;
    let contents = spec::read(0, file, text, home);
    let document = contents.documents.iter().find(|document| document.title() == object)?;
    let cause = problem.cause.as_deref().unwrap_or_default();
    Some(document.place(&match problem.code {
        Code::P0205 => format!("spec.pluginConfig{}", named_field(cause)),
        Code::P0501 => "spec.listeners".to_owned(),
        Code::P0502 => "spec.accessLog.path".to_owned(),
        _ => "spec.url".to_owned(),
    }))
}

/// The field that a filter complains about in the way of the SDK: `.percent` of `config.percent: 500 is above 100`.
fn named_field(message: &str) -> &str {
    let named = message
        .split_whitespace()
        .find_map(|word| word.strip_prefix("config").filter(|path| path.starts_with(['.', '['])));
    named.unwrap_or_default().trim_end_matches([':', ','])
}

/// Whether two plans complain about the same thing, wherever their sources stand.
pub fn same_problem(one: &Problem, other: &Problem) -> bool {
    let place = |problem: &Problem| problem.place.as_ref().map(|place| place.file.clone());
    one.code == other.code
        && one.title == other.title
        && one.object == other.object
        && place(one) == place(other)
}
