//! The guest's last words: log lines of the running callback that explain a refusal or a trap.

use std::collections::VecDeque;

use crate::services::LogLevel;

const LINES: usize = 4;
const LENGTH: usize = 2048;

/// Log lines from warn upwards, and the text of a panic.
#[derive(Default)]
pub(crate) struct Notes {
    lines: VecDeque<String>,
    panic: Option<String>,
}

impl Notes {
    pub(crate) fn add(&mut self, level: LogLevel, message: &str) {
        if level < LogLevel::Warn {
            return;
        }
        let line = shorten(message.trim());
        if level == LogLevel::Critical {
            self.panic = Some(line.to_owned());
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    /// Marks the last line as the text of a panic, for what runtimes print to stderr instead of logging it.
    pub(crate) fn panicked(&mut self) {
        self.panic = self.lines.back().cloned();
    }

    /// Called for every callback, and there is hardly ever anything.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if !self.lines.is_empty() {
            self.forget();
        }
    }

    #[cold]
    fn forget(&mut self) {
        *self = Notes::default();
    }

    pub(crate) fn panic(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    /// The lines, oldest first, as one text; `None` if there are none.
    pub(crate) fn text(&self) -> Option<String> {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

fn shorten(text: &str) -> &str {
    let mut end = text.len().min(LENGTH);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
