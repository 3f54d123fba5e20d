//! The terminal: colours and plain tables, and the two streams.
//!
//! Results go to stdout, everything else to stderr. Besides `cli` this is the only module that prints. It knows nothing
//! of problems, plans or commands.

use std::env;
use std::io::{self, IsTerminal, Write};

/// `--color`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Also into pipes.
    Always,
    /// No escape codes.
    Never,
}

/// How text is decorated; decided once, at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    colored: bool,
}

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Something is wrong.
    Error,
    /// Something may be wrong.
    Warning,
    /// Something is right.
    Good,
    /// A way out.
    Hint,
    /// The skeleton around the text.
    Frame,
    /// A heading.
    Strong,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Paint::Error => "1;31",
            Paint::Warning => "1;33",
            Paint::Good => "32",
            Paint::Hint => "36",
            Paint::Frame => "34",
            Paint::Strong => "1",
        }
    }
}

impl Style {
    /// No escape codes at all.
    pub const PLAIN: Style = Style { colored: false };

    /// What `choice` means for output into `stream`.
    pub fn choose(choice: ColorChoice, stream: &impl IsTerminal) -> Style {
        let colored = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                stream.is_terminal()
                    && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        };
        Style { colored }
    }

    /// `text` in the colour of `paint`.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        if self.colored { format!("\x1b[{}m{text}\x1b[0m", paint.code()) } else { text.to_owned() }
    }
}

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Problems only.
    Quiet,
    /// And what a person wants to know.
    #[default]
    Normal,
    /// And the details.
    Verbose,
}

/// `-o`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people; may change.
    #[default]
    Text,
    /// For programs; carries a versioned `schema`.
    Json,
}

/// The two streams and how to write on them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Term {
    /// For stdout.
    pub out: Style,
    /// For stderr.
    pub err: Style,
    /// Form of the result.
    pub format: Format,
    /// How much is said besides the result.
    pub verbosity: Verbosity,
}

impl Term {
    /// Decides colours for both streams.
    pub fn new(color: ColorChoice, format: Format, verbosity: Verbosity) -> Term {
        Term {
            out: Style::choose(color, &io::stdout()),
            err: Style::choose(color, &io::stderr()),
            format,
            verbosity,
        }
    }

    /// Writes a piece of the result. A reader that went away is no problem of ours.
    pub fn result(&self, text: &str) {
        write_line(io::stdout().lock(), text);
    }

    /// Says something that is not the result, unless `-q`.
    pub fn say(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.complain(text);
        }
    }

    /// Says a detail, with `-v`.
    pub fn detail(&self, text: &str) {
        if self.verbosity > Verbosity::Normal {
            self.complain(text);
        }
    }

    /// Says what is wrong.
    pub fn complain(&self, text: &str) {
        write_line(io::stderr().lock(), text);
    }
}

fn write_line(mut stream: impl Write, text: &str) {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let _ = write!(stream, "{text}{end}").and_then(|()| stream.flush());
}

/// Columns as wide as their widest cell, two blanks apart; the last one is left ragged.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `text` without control characters: what comes from outside may not steer the terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
