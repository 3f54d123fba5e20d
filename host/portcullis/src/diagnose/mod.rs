//! What can be wrong, in one vocabulary: stable codes with their pages, and [`Problem`]s that carry a place, a cause and a
//! hint.
//!
//! This module describes problems; it never decides what follows from one, and it does not print.

mod codes;
mod render;

use std::fmt;

use serde::Serialize;

pub use codes::Code;
pub use render::{Report, tally};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It works, but perhaps not as meant.
    Warning,
    /// The object is refused.
    Error,
}

/// Whose fault a problem is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The object's own; it would be there whatever else is configured.
    #[default]
    Object,
    /// The object names something that is not there or not usable; another document may cure it.
    Reference,
}

/// Where a problem is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// As the user named the file or its folder.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Path of the field inside the object, such as `spec.rules[0].timeouts.request`; may be empty.
    pub field: String,
    /// The line itself.
    #[serde(skip)]
    pub text: String,
    /// How many characters of it are meant; at least 1.
    #[serde(skip)]
    pub width: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind of problem.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// `None` where no document is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// `Kind namespace/name`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Why, in plain words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whose fault it is.
    pub kind: Kind,
    /// Index of the source object it lies in, among those that were planned.
    #[serde(skip)]
    pub source: Option<usize>,
}

impl Problem {
    /// An error of the object itself; refine it with the methods below.
    pub fn new(code: Code, title: impl Into<String>) -> Problem {
        Problem {
            code,
            severity: Severity::Error,
            title: title.into(),
            place: None,
            object: None,
            cause: None,
            hint: None,
            kind: Kind::Object,
            source: None,
        }
    }

    /// Makes it a warning.
    pub fn warning(mut self) -> Problem {
        self.severity = Severity::Warning;
        self
    }

    /// Makes it a reference problem.
    pub fn reference(mut self) -> Problem {
        self.kind = Kind::Reference;
        self
    }

    /// Says where it is.
    pub fn at(mut self, place: Place) -> Problem {
        self.place = Some(place);
        self
    }

    /// Says in which source object it is.
    pub fn in_source(mut self, source: usize) -> Problem {
        self.source = Some(source);
        self
    }

    /// Says which object has it: `Kind namespace/name`.
    pub fn of(mut self, object: impl Into<String>) -> Problem {
        self.object = Some(object.into());
        self
    }

    /// Says why.
    pub fn because(mut self, cause: impl Into<String>) -> Problem {
        self.cause = Some(cause.into());
        self
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it is more than a warning.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// A problem in one line, for logs: `P0104 a.yaml:3:7 bad duration "10 sec" (write …)`.
pub struct OneLine<'a> {
    /// Of the problem, as is the rest.
    pub code: &'a str,
    /// See [`Problem::place`].
    pub place: Option<&'a dyn fmt::Display>,
    /// See [`Problem::object`].
    pub object: Option<&'a str>,
    /// See [`Problem::title`].
    pub title: &'a str,
    /// See [`Problem::cause`].
    pub cause: Option<&'a str>,
    /// See [`Problem::hint`].
    pub hint: Option<&'a str>,
}

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(place) = &self.place {
            write!(f, " {place}")?;
        }
        if let Some(object) = &self.object {
            write!(f, " {object}:")?;
        }
        write!(f, " {}", self.title)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = OneLine {
            code: self.code.as_str(),
            place: self.place.as_ref().map(|place| place as &dyn fmt::Display),
            object: self.object.as_deref(),
            title: &self.title,
            cause: self.cause.as_deref(),
            hint: self.hint.as_deref(),
        };
        line.fmt(f)
    }
}

/// The one of `known` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = |candidate: &&str| {
        let distance = strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase());
        distance <= 1 + candidate.chars().count() / 4
    };
    known.into_iter().filter(close).min_by_key(|candidate| {
        strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase())
    })
}
