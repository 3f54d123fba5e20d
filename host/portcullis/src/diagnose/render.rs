//! Problems as text for people (source line and caret) and as one versioned JSON object.

use serde::Serialize;

use super::{Problem, Severity};
use crate::term::{Paint, Style, clean};

/// All problems of a command, for `-o json`.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// Name and version of this form.
    pub schema: &'static str,
    /// How many of the problems are errors.
    pub errors: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// In the order of the documents.
    pub problems: &'a [Problem],
}

impl<'a> Report<'a> {
    /// Counts `problems` under a schema such as `portcullis.check/1`.
    pub fn new(schema: &'static str, problems: &'a [Problem]) -> Report<'a> {
        let errors = problems.iter().filter(|problem| problem.is_error()).count();
        Report { schema, errors, warnings: problems.len() - errors, problems }
    }
}

/// `2 errors, 1 warning`, or `None` if there is neither.
pub fn tally(problems: &[Problem]) -> Option<String> {
    let count = |number: usize, noun: &str| match number {
        0 => None,
        1 => Some(format!("1 {noun}")),
        _ => Some(format!("{number} {noun}s")),
    };
    let Report { errors, warnings, .. } = Report::new("", problems);
    let parts: Vec<String> =
        [count(errors, "error"), count(warnings, "warning")].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

impl Problem {
    /// Several lines, ending with a line break: title, place with the source line and a caret, object, cause, hint.
    pub fn render(&self, style: Style) -> String {
        let (word, paint) = match self.severity {
            Severity::Error => ("error", Paint::Error),
            Severity::Warning => ("warning", Paint::Warning),
        };
        let head = style.paint(paint, &format!("{word}[{}]", self.code));
        let title = style.paint(Paint::Strong, &clean(&self.title));
        let mut text = format!("{head}: {title}\n");
        let margin = self.place.as_ref().map_or(1, |place| place.line.to_string().len());
        let frame = |mark: &str| style.paint(Paint::Frame, mark);
        if let Some(place) = &self.place {
            let bar = frame(&format!("{:margin$} |", ""));
            let at = clean(&place.to_string());
            text += &format!("{:margin$}{} {at}\n", "", frame("-->"));
            if !place.text.is_empty() {
                let line = place.text.replace('\t', " ");
                let caret = style.paint(paint, &"^".repeat(place.width.max(1)));
                let number = frame(&format!("{} |", place.line));
                let indent = " ".repeat(place.column.saturating_sub(1));
                text += &format!("{bar}\n{number} {}\n{bar} {indent}{caret}\n", clean(&line));
            }
        }
        let field = self.place.as_ref().map_or("", |place| place.field.as_str());
        let object = match (self.object.as_deref(), field) {
            (Some(object), "") => Some(object.to_owned()),
            (Some(object), field) => Some(format!("{object}, {field}")),
            (None, _) => None,
        };
        let equals = frame("=");
        for line in [object, self.cause.clone()].into_iter().flatten() {
            text += &format!("{:margin$} {equals} {}\n", "", indented(&line, margin + 3));
        }
        if let Some(hint) = &self.hint {
            let word = style.paint(Paint::Hint, "hint:");
            text += &format!("{:margin$} {word} {}\n", "", indented(hint, margin + 7));
        }
        text
    }
}

/// What comes from outside may have several lines.
fn indented(text: &str, margin: usize) -> String {
    clean(text).replace('\n', &format!("\n{:margin$}", ""))
}
