//! What lies on the table while a plan is made: problems and notes so far, and the way to modules and files.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use portcullis_proxy::Snapshot;

use super::{Modules, Note, ObjectName, Planned, ProcessSettings, beside};
use crate::diagnose::{Code, Problem};
use crate::spec::Document;

/// Collects what a plan comes to.
pub(super) struct Desk<'a> {
    pub modules: &'a dyn Modules,
    pub problems: Vec<Problem>,
    pub notes: Vec<Note>,
    /// Sources of which a part could not be read.
    pub unread: Vec<String>,
    used_files: BTreeSet<PathBuf>,
}

impl<'a> Desk<'a> {
    pub fn new(modules: &'a dyn Modules) -> Desk<'a> {
        let (problems, notes, unread) = (Vec::new(), Vec::new(), Vec::new());
        Desk { modules, problems, notes, unread, used_files: BTreeSet::new() }
    }

    /// Takes a problem down and goes on without the value.
    pub fn refuse<T>(&mut self, problem: Problem) -> Option<T> {
        self.problems.push(problem);
        None
    }

    pub fn note(&mut self, document: &Document, field: &str, text: impl Into<String>) {
        self.notes.push(Note {
            source: document.source,
            object: document.title(),
            place: Some(document.place(field)),
            text: text.into(),
        });
    }

    pub fn uses(&mut self, document: &Document, path: &str) {
        self.used_files.insert(beside(&document.file, path));
    }

    /// The bytes of the file that `document` names at `field`.
    pub fn file(&mut self, document: &Document, field: &str, path: &str) -> Option<Bytes> {
        let hint = "names are relative to the folder of this document";
        self.file_or(document, field, path, hint)
    }

    /// The same; `hint` says what to do if it cannot be read.
    pub fn file_or(
        &mut self,
        document: &Document,
        field: &str,
        path: &str,
        hint: &str,
    ) -> Option<Bytes> {
        self.uses(document, path);
        match self.modules.file(&document.file, path) {
            Ok(bytes) => Some(bytes),
            Err(reason) => {
                let title = format!("cannot read {}", beside(&document.file, path).display());
                let problem = document.problem(Code::P0401, field, title).because(reason);
                self.refuse(problem.hint(hint))
            }
        }
    }

    pub fn has_error_of(&self, document: &Document) -> bool {
        let title = document.title();
        let same = |problem: &&Problem| {
            problem.source == Some(document.source) && problem.object.as_deref() == Some(&title)
        };
        self.problems.iter().filter(same).any(Problem::is_error)
    }

    pub fn finish(
        mut self,
        snapshot: Option<Snapshot>,
        process: Option<ProcessSettings>,
        objects: Vec<ObjectName>,
    ) -> Planned {
        let place = |problem: &Problem| {
            let at = problem.place.as_ref().map(|place| (place.line, place.column));
            (problem.source, at)
        };
        self.problems.sort_by_key(place);
        self.notes.sort_by_key(|note| {
            (note.source, note.place.as_ref().map(|place| (place.line, place.column)))
        });
        let used_files = self.used_files.into_iter().collect();
        let (problems, notes) = (self.problems, self.notes);
        Planned { snapshot, process, problems, notes, objects, used_files }
    }
}
