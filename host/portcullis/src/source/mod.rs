//! Where documents come from: files and folders, and the ConfigMaps of a cluster, read as whole source objects and watched
//! for changes.
//!
//! A source object is the unit of acceptance: one file, or one ConfigMap. This module reads and compares bytes; it never
//! parses a document and never decides whether one is good.

mod files;
mod kubernetes;
mod sources;
mod watch;

use std::sync::Arc;

use crate::fetch::Version;
use crate::spec::Home;

pub use files::{Files, ReadError};
pub use kubernetes::{Kubernetes, KubernetesSettings, View};
pub use sources::{Fate, Lost, Reading, Sources};
pub use watch::{Change, Watch};

/// One file of documents, or one ConfigMap, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The path as the user would write it: what was given with `-c`, and below it the file's name. For a ConfigMap
    /// `configmap://NAMESPACE/NAME`.
    pub name: Arc<str>,
    /// Of the texts (or of the reason why there are none).
    pub version: Version,
    /// The documents, or why they cannot be read.
    pub texts: Result<Vec<Text>, Arc<str>>,
    /// Where it comes from.
    pub home: Home,
}

/// A file of documents, or a ConfigMap's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// A path, or `configmap://NAMESPACE/NAME/KEY`.
    pub name: Arc<str>,
    /// What it holds.
    pub text: Arc<str>,
}

impl Object {
    /// An object with its version made of `text`.
    pub fn new(name: &str, text: Result<String, String>) -> Object {
        let version = Version::of(match &text {
            Ok(text) | Err(text) => text.as_bytes(),
        });
        let name: Arc<str> = Arc::from(name);
        let texts = text.map(|text| vec![Text { name: name.clone(), text: text.into() }]);
        Object { name, version, texts: texts.map_err(Arc::from), home: Home::default() }
    }

    /// An object of several texts.
    pub fn of(name: Arc<str>, home: Home, texts: Result<Vec<Text>, Arc<str>>) -> Object {
        let version = match &texts {
            Ok(texts) => {
                let names = texts.iter().flat_map(|text| [&text.name, &text.text]);
                let parts = names.map(|part| Some(Version::of(part.as_bytes())));
                Version::of(b"").with(parts)
            }
            Err(reason) => Version::of(reason.as_bytes()),
        };
        Object { name, version, texts, home }
    }
}
