//! One version of one source object, with what it refers to.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_vm::Module;

use crate::diagnose::{Code, Problem};
use crate::fetch::{Shelf, Store, Version};
use crate::plan::{ModuleError, ModuleRequest, Modules, Planned, Source, beside, plan};
use crate::source::Object;

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

    /// The documents; empty where they cannot be read.
    pub fn text(&self) -> &str {
        self.object.text.as_deref().unwrap_or_default()
    }

    /// The files it refers to.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.shelf.files().into_keys()
    }

    /// Whether `object` is this very version, and no file it refers to has changed.
    pub fn is_current(&self, object: &Object) -> bool {
        self.object == *object && self.shelf.is_current()
    }

    /// Forgets that the compiler gave up on a module.
    pub fn try_again(&self) {
        self.shelf.try_again();
    }

    /// Why there is no text.
    pub fn unreadable(&self) -> Option<Problem> {
        let cause = self.object.text.as_ref().err()?;
        let problem = Problem::new(Code::P0401, format!("cannot read {}", self.object.name));
        Some(problem.because(cause.to_string()))
    }
}

/// Plans these versions together, each with its own files. Sources are numbered in the order of `candidates`.
pub fn plan_all(candidates: &[Arc<Candidate>], proxy: Option<&str>) -> Planned {
    let source = |candidate: &Arc<Candidate>| Source {
        name: candidate.name().to_string(),
        text: candidate.text().to_owned(),
    };
    let sources: Vec<Source> = candidates.iter().map(source).collect();
    plan(&sources, proxy, &Shelves(candidates))
}

/// Every version follows its references on its own shelf.
struct Shelves<'a>(&'a [Arc<Candidate>]);

impl Shelves<'_> {
    fn of(&self, source: &str) -> Option<&Shelf> {
        let candidate = self.0.iter().find(|candidate| **candidate.name() == *source)?;
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
}
