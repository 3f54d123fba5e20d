//! Where documents come from: files and folders, read as whole source objects and watched for changes.
//!
//! A source object is the unit of acceptance: one file. This module reads and compares bytes; it never parses a
//! document and never decides whether one is good.

mod files;
mod watch;

use std::sync::Arc;

use crate::fetch::Version;

pub use files::{Files, ReadError};
pub use watch::{Change, Watch};

/// One file of documents, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The path as the user would write it: what was given with `-c`, and below it the file's name.
    pub name: Arc<str>,
    /// Of the text (or of the reason why there is none).
    pub version: Version,
    /// The documents, or why they cannot be read.
    pub text: Result<Arc<str>, Arc<str>>,
}

impl Object {
    /// An object with its version made of `text`.
    pub fn new(name: &str, text: Result<String, String>) -> Object {
        let version = Version::of(match &text {
            Ok(text) | Err(text) => text.as_bytes(),
        });
        let text = text.map(Arc::from).map_err(Arc::from);
        Object { name: Arc::from(name), version, text }
    }
}
