//! What may be known of the configuration: written by `control` after each round, read by the admin server, the
//! metrics and the tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use portcullis_proxy::observe::rfc3339;
use portcullis_proxy::snapshot::{Listener, ListenerProtocol};
use serde_json::{Value, json};

use super::accept::Live;
use crate::diagnose::Problem;
use crate::fetch::Version;
use crate::plan::{Note, Planned, ProcessSettings};

/// The state after the last round.
#[derive(Default)]
pub struct Board {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    generation: u64,
    since: Option<SystemTime>,
    /// When what is live was stored, while it comes from disk.
    restored: Option<SystemTime>,
    /// Why what is live is not on disk for the next start; `None`: it is, or need not be.
    unkept: Option<String>,
    sources: Vec<SourceState>,
    /// What keeps everything from going live.
    whole: Vec<Problem>,
    last: Option<(SystemTime, Problem)>,
    accepted_total: u64,
    refused_total: u64,
    /// What the process was started with, and what the documents say now.
    process: Option<(ProcessSettings, ProcessSettings)>,
    notes: Vec<Note>,
    filters: Vec<Arc<str>>,
    /// By listener.
    schemes: BTreeMap<String, &'static str>,
    /// Name and text of what is live.
    documents: Vec<(Arc<str>, Arc<str>)>,
}

/// One source object, as status shows it.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// The file or the ConfigMap.
    pub name: Arc<str>,
    /// What it contains now.
    pub version: Version,
    /// What is live of it, and since when; `None`: left out.
    pub accepted: Option<(Version, SystemTime)>,
    /// What is wrong with it, errors first.
    pub problems: Vec<Problem>,
}

impl Board {
    /// The live generation; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// All problems there are now: those of the sources, in their order, then those of the whole.
    pub fn problems(&self) -> Vec<Problem> {
        let state = self.lock();
        let sources = state.sources.iter().flat_map(|source| &source.problems);
        sources.chain(&state.whole).cloned().collect()
    }

    /// What the process was started with.
    pub fn process(&self) -> Option<ProcessSettings> {
        self.lock().process.as_ref().map(|(started, _)| started.clone())
    }

    /// What the documents say now; what needs a restart is not in effect yet.
    pub fn settings(&self) -> Option<ProcessSettings> {
        self.lock().process.as_ref().map(|(_, now)| now.clone())
    }

    /// Names of the filters that are live.
    pub fn filters(&self) -> Vec<Arc<str>> {
        self.lock().filters.clone()
    }

    /// How a listener is spoken to: `http`, `https`, `tcp` or `tls`.
    pub fn scheme(&self, listener: &str) -> &'static str {
        self.lock().schemes.get(listener).copied().unwrap_or("http")
    }

    /// The configuration's part of `/status`.
    pub fn status(&self) -> Value {
        let state = self.lock();
        json!({
            "generation": state.generation,
            "since": state.since.map(rfc3339),
            "restored_from": state.restored.map(rfc3339),
            "last_good_problem": state.unkept,
            "sources": state.sources.iter().map(SourceState::status).collect::<Vec<_>>(),
            "problems": state.whole,
            "notes": state.notes.iter().map(note).collect::<Vec<_>>(),
            "last_problem": state.last.as_ref().map(|(at, problem)| {
                json!({"at": rfc3339(*at), "problem": problem})
            }),
            "accepted_total": state.accepted_total,
            "refused_total": state.refused_total,
            "needs_restart": state.needs_restart(),
        })
    }

    /// Name and text of every file of documents that is live, as they were written.
    pub fn documents(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.lock().documents.clone()
    }

    /// Our lines of `/metrics`.
    pub fn metrics(&self) -> String {
        let state = self.lock();
        let mut text = String::new();
        let counters = [
            ("accepted", "Configurations that went live.", state.accepted_total),
            ("refused", "Versions of source objects that were refused.", state.refused_total),
        ];
        for (name, help, value) in counters {
            let name = format!("portcullis_config_{name}_total");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
        }
        text
    }

    pub(super) fn published(&self, live: &Live, planned: &Planned) {
        let mut state = self.lock();
        state.generation = live.generation;
        state.since = Some(SystemTime::now());
        state.accepted_total += 1;
        let texts = live.candidates.iter().flat_map(|candidate| candidate.texts());
        state.documents = texts.map(|text| (text.name.clone(), text.text.clone())).collect();
        state.notes.clone_from(&planned.notes);
        state.filters = live.filters.iter().map(|filter| filter.name.clone()).collect();
        let named = live.listeners.iter().map(|listener| (listener.name.clone(), scheme(listener)));
        state.schemes = named.collect();
        if let Some(now) = planned.process.clone() {
            let started = state.process.take().map_or_else(|| now.clone(), |(started, _)| started);
            state.process = Some((started, now));
        }
        for setting in state.needs_restart() {
            tracing::warn!(setting, "the new value needs a restart");
        }
    }

    pub(super) fn restored(&self, stored_at: Option<SystemTime>) {
        self.lock().restored = stored_at;
    }

    /// Whether what is live is on disk for the next start: the log says it when that changes.
    pub(super) fn kept(&self, problem: Option<String>) {
        let mut state = self.lock();
        if state.unkept == problem {
            return;
        }
        match &problem {
            Some(problem) => tracing::warn!("the last good configuration: {problem}"),
            None => tracing::info!("the last good configuration is kept again"),
        }
        state.unkept = problem;
    }

    pub(super) fn show(&self, sources: Vec<SourceState>) {
        self.lock().sources = sources;
    }

    /// Versions of objects that were refused in this round, and not before. A start that fails is not logged: whoever
    /// started it says why.
    pub(super) fn refused(&self, versions: u64, problems: &[Problem]) {
        let mut state = self.lock();
        state.refused_total += versions;
        for problem in problems {
            if state.generation > 0 {
                tracing::warn!(code = %problem.code, "refused: {problem}");
            }
            state.last = Some((SystemTime::now(), problem.clone()));
        }
    }

    /// What keeps everything from going live; nothing, when it is empty.
    pub(super) fn refused_whole(&self, problems: Vec<Problem>) {
        let mut state = self.lock();
        if state.whole == problems {
            return;
        }
        for problem in &problems {
            if state.generation > 0 {
                tracing::error!(code = %problem.code, "configuration not taken: {problem}");
            }
            state.last = Some((SystemTime::now(), problem.clone()));
        }
        state.whole = problems;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Settings whose documents say something else than what the process was started with.
    fn needs_restart(&self) -> Vec<&'static str> {
        let Some((started, now)) = &self.process else { return Vec::new() };
        let changed = [
            ("workers", started.workers != now.workers),
            ("admin", started.admin != now.admin),
            ("health", started.health != now.health),
        ];
        changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
    }
}

impl SourceState {
    fn status(&self) -> Value {
        json!({
            "name": &*self.name,
            "version": self.version.to_string(),
            "accepted_version": self.accepted.map(|(version, _)| version.to_string()),
            "accepted_since": self.accepted.map(|(_, since)| rfc3339(since)),
            "problem": self.problems.first(),
            "problems": self.problems,
        })
    }
}

fn note(note: &Note) -> Value {
    json!({"object": note.object, "place": note.place, "text": note.text})
}

fn scheme(listener: &Listener) -> &'static str {
    match (listener.protocol, &listener.tls) {
        (ListenerProtocol::Http, None) => "http",
        (ListenerProtocol::Http, Some(_)) => "https",
        (ListenerProtocol::Tcp, None) => "tcp",
        (ListenerProtocol::Tcp, Some(_)) | (ListenerProtocol::Passthrough, _) => "tls",
    }
}
