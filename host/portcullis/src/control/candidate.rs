//! One version of one source object, with what it refers to.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_vm::Module;

use super::blame::place;
use crate::diagnose::{Code, Place, Problem};
use crate::fetch::{Blob, Shelf, Store, Version};
use crate::plan::{ModuleError, ModuleRequest, Modules, Planned, Source, TlsSecret, beside, plan};
use crate::source::{Object, Text};
use crate::spec::{self, Document};

/// Kinds of documents that are filters.
const FILTERS: [&str; 2] = ["WasmFilter", "WasmPlugin"];

/// A version of an object that is offered, or live. Everything it needs to be planned again, later, with the same result.
pub struct Candidate {
    object: Object,
    shelf: Shelf,
}

impl Candidate {
    /// A version whose references are followed when they are needed.
    pub fn new(object: Object, store: Arc<Store>) -> Candidate {
        let shelf = Shelf::new(store, object.version);
        Candidate { object, shelf }
    }

    /// The source object's name.
    pub fn name(&self) -> &Arc<str> {
        &self.object.name
    }

    /// Of the text and of what it refers to, as far as that was followed.
    pub fn version(&self) -> Version {
        self.object.version.with(self.shelf.versions())
    }

    /// A version that was live before, with what it referred to then.
    pub fn restored(
        object: Object,
        store: Arc<Store>,
        blobs: impl IntoIterator<Item = (PathBuf, Blob)>,
    ) -> Candidate {
        let shelf = Shelf::new(store, object.version).with(blobs);
        Candidate { object, shelf }
    }

    /// What it was read as.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The documents; none where they cannot be read.
    pub fn texts(&self) -> &[Text] {
        self.object.texts.as_deref().unwrap_or_default()
    }

    /// Where in its documents the object stands that `problem` is about.
    pub fn place(&self, problem: &Problem) -> Option<Place> {
        let home = &self.object.home;
        self.texts().iter().find_map(|text| place(problem, &text.name, &text.text, home))
    }

    /// The files and keys of ConfigMaps that it refers to.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.shelf.files().into_keys()
    }

    /// What it refers to in the cluster, as it is stored there.
    pub fn blobs(&self) -> Vec<(PathBuf, Blob)> {
        self.shelf.blobs()
    }

    /// Whether `object` is this very version, and no file it refers to has changed.
    pub fn is_current(&self, object: &Object) -> bool {
        self.object == *object && self.shelf.is_current()
    }

    /// Forgets that the compiler gave up on a module.
    pub fn try_again(&self) {
        self.shelf.try_again();
    }

    /// Whether traffic has to pass a filter that stands in it, as far as can be told. What cannot be told counts as one that
    /// it has to pass.
    pub fn guards(&self) -> bool {
        self.texts().iter().any(|text| {
            let named = FILTERS.iter().any(|kind| text.text.contains(kind));
            named && !self.may_be_skipped(text)
        })
    }

    fn may_be_skipped(&self, text: &Text) -> bool {
        let contents = spec::read(0, &text.name, &text.text, &self.object.home);
        let opens = |filter: &&Document| filter.json()["spec"]["failStrategy"] == "FAIL_OPEN";
        let is_filter = |document: &&Document| FILTERS.contains(&document.kind);
        let mut filters = contents.documents.iter().filter(is_filter).peekable();
        let known = !contents.incomplete
            && filters.peek().is_some()
            && contents.problems.iter().all(|problem| problem.object.is_some());
        known && filters.all(|filter| opens(&filter))
    }

    /// Why there is no text.
    pub fn unreadable(&self) -> Option<Problem> {
        let cause = self.object.texts.as_ref().err()?;
        let problem = Problem::new(Code::P0401, format!("cannot read {}", self.object.name));
        Some(problem.because(cause.to_string()))
    }
}

/// Plans these versions together, each with its own files. Its sources are the
/// indexes of `candidates`.
pub fn plan_all(candidates: &[Arc<Candidate>], proxy: Option<&str>) -> Planned {
    let (mut owners, mut sources) = (Vec::new(), Vec::new());
    for (index, candidate) in candidates.iter().enumerate() {
        for text in candidate.texts() {
            owners.push(index);
            sources.push(Source {
                name: text.name.clone(),
                text: text.text.clone(),
                home: candidate.object.home.clone(),
            });
        }
    }
    let mut planned = plan(&sources, proxy, &Shelves(candidates));
    let owner = |source: usize| owners.get(source).copied().unwrap_or(usize::MAX);
    for problem in &mut planned.problems {
        problem.source = problem.source.map(owner);
    }
    planned.notes.iter_mut().for_each(|note| note.source = owner(note.source));
    planned.objects.iter_mut().for_each(|object| object.source = owner(object.source));
    planned
}

/// Every version follows its references on its own shelf.
struct Shelves<'a>(&'a [Arc<Candidate>]);

impl Shelves<'_> {
    fn of(&self, source: &str) -> Option<&Shelf> {
        let owns = |candidate: &&Arc<Candidate>| {
            candidate.texts().iter().any(|text| *text.name == *source)
        };
        let candidate = self.0.iter().find(owns)?;
        Some(&candidate.shelf)
    }
}

impl Modules for Shelves<'_> {
    fn module(&self, request: &ModuleRequest<'_>) -> Result<Arc<Module>, ModuleError> {
        match self.of(request.source) {
            Some(shelf) => shelf.module(request),
            None => Err(ModuleError::Unreadable {
                path: request.url.to_owned(),
                problem: format!("{} is not planned", request.source),
            }),
        }
    }

    fn pinned(&self, request: &ModuleRequest<'_>) -> Option<String> {
        self.of(request.source)?.pinned(request)
    }

    fn file(&self, source: &str, path: &str) -> Result<Bytes, String> {
        let shelf = self.of(source).ok_or_else(|| format!("{source} is not planned"))?;
        shelf.bytes(&beside(source, path))
    }

    fn secret(&self, source: &str, namespace: &str, name: &str) -> Result<TlsSecret, Box<Problem>> {
        match self.of(source) {
            Some(shelf) => shelf.secret(namespace, name),
            None => Err(Box::new(Problem::new(Code::P0901, format!("{source} is not planned")))),
        }
    }
}
