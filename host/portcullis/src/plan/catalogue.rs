//! Every document by kind, namespace and name; who is there twice, who is nearer, and who was probably meant.

use std::collections::{HashMap, HashSet};

use super::ObjectName;
use super::desk::Desk;
use crate::diagnose::{Code, Problem, nearest};
use crate::spec::{Document, Object, Reach};

/// All documents, newcomers with a taken name excepted.
pub(super) struct Catalogue {
    documents: Vec<Document>,
    /// Where in `documents` those with this name are, of whatever kind and namespace.
    named: HashMap<String, Vec<usize>>,
    refused: Vec<ObjectName>,
}

/// A WasmFilter and a WasmPlugin run under the same names.
fn family(kind: &str) -> &str {
    if kind == "WasmPlugin" { "WasmFilter" } else { kind }
}

/// `documents` without those that concern every proxy and have the kind and name of one that is nearer.
fn nearer(documents: Vec<Document>, desk: &mut Desk<'_>) -> Vec<Document> {
    if documents.iter().all(|document| document.reach == Reach::Near) {
        return documents;
    }
    let near: HashSet<(String, String)> = documents
        .iter()
        .filter(|document| document.reach == Reach::Near)
        .map(|document| (family(document.kind).to_owned(), document.name.clone()))
        .collect();
    let mut kept = documents;
    kept.retain(|document| {
        let hidden = document.reach == Reach::Mesh
            && near.contains(&(family(document.kind).to_owned(), document.name.clone()));
        if hidden {
            let text = format!("the nearer {} {} is used instead", document.kind, document.name);
            desk.note(document, "metadata.name", text);
        }
        !hidden
    });
    kept
}

fn name_of(document: &Document) -> ObjectName {
    ObjectName {
        source: document.source,
        kind: document.kind.to_owned(),
        namespace: document.namespace.clone(),
        name: document.name.clone(),
    }
}

impl Catalogue {
    pub fn new(documents: Vec<Document>, desk: &mut Desk<'_>) -> Catalogue {
        let offered = nearer(documents, desk);
        let documents = Vec::with_capacity(offered.len());
        let mut catalogue = Catalogue { documents, named: HashMap::new(), refused: Vec::new() };
        for document in offered {
            let taken = catalogue.get(document.kind, &document.namespace, &document.name);
            let Some(first) = taken.filter(|first| !first.name.is_empty()) else {
                let same_name = catalogue.named.entry(document.name.clone()).or_default();
                same_name.push(catalogue.documents.len());
                catalogue.documents.push(document);
                continue;
            };
            let title = format!("{} is already defined", document.title());
            let hint = format!("the first one is at {}", first.place("metadata.name"));
            desk.problems.push(document.problem(Code::P0106, "metadata.name", title).hint(hint));
            catalogue.refused.push(name_of(&document));
        }
        catalogue
    }

    /// Names of all documents by source, right or not.
    pub fn objects(&self) -> Vec<ObjectName> {
        let mut names: Vec<_> = self.documents.iter().map(name_of).collect();
        names.extend(self.refused.iter().cloned());
        names.sort_by_key(|name| name.source);
        names
    }

    /// A document of this name, right or not.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Document> {
        let same = |document: &&Document| {
            family(document.kind) == family(kind) && document.namespace == namespace
        };
        let named = self.named.get(name)?.iter();
        named.filter_map(|index| self.documents.get(*index)).find(same)
    }

    /// Documents of a kind, right or not.
    pub fn of(&self, kind: &'static str) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(move |document| document.kind == kind)
    }

    /// Documents that decoded, with what they say.
    pub fn objects_of<'a, T: 'a>(
        &'a self,
        pick: impl Fn(&'a Object) -> Option<T> + 'a,
    ) -> impl Iterator<Item = (&'a Document, T)> {
        self.documents
            .iter()
            .filter_map(move |document| Some((document, pick(document.object.as_ref()?)?)))
    }

    /// A problem of `document`, whose `field` names something of this kind that does not exist.
    pub fn dangling(
        &self,
        document: &Document,
        field: &str,
        (kind, namespace, name): (&'static str, &str, &str),
        desk: &Desk<'_>,
    ) -> Problem {
        let title = format!("there is no {kind} {namespace}/{name}");
        let mut problem = document.problem(Code::P0105, field, title).reference();
        if let [first, ..] = desk.unread.as_slice() {
            problem = problem.because(format!("{first} could not be read whole; it may be there"));
        }
        let here = || self.of(kind).filter(|other| other.namespace == namespace);
        let elsewhere = self.of(kind).find(|other| other.name == name);
        problem.hint(match (nearest(name, here().map(|other| other.name.as_str())), elsewhere) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(other)) => format!("{} is in another namespace", other.title()),
            (None, None) => format!("add a document of kind {kind} with this name"),
        })
    }
}
