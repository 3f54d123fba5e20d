//! Our own log: `tracing` events as lines on standard error, JSON or text, through a bounded queue, so that no thread
//! ever waits for whoever reads them.
//!
//! Not the access log, and not what a command prints for people (`term`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use portcullis_proxy::observe::{Capacity, Counter, Sink, Target};
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

/// Environment variable that sets the level, when no flag does: `info`, or `warn,portcullis_vm=debug`.
pub const LEVEL_VARIABLE: &str = "PORTCULLIS_LOG";

/// Whose events are left out unless the level names them: what concerns us of them is told by us.
const OWN_WORDS: &str = "kube_client";

/// Form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people; no colours, since it may end in a file.
    Text,
}

/// What can be wrong when logging starts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level's grammar.
    #[error("log level \"{level}\": {problem}")]
    Level {
        /// As given.
        level: String,
        /// Of the parser.
        problem: ParseError,
    },
    /// The writer.
    #[error("the log cannot be written: {0}")]
    Writer(#[from] io::Error),
    /// Somebody else receives the events of this process.
    #[error("logging has already begun")]
    Begun,
}

/// The process's log. Keep it until the end, and [`flush`](Log::flush) it there.
#[derive(Debug)]
pub struct Log {
    sink: Arc<Sink<String>>,
}

impl Log {
    /// Begins to log to standard error. `level` is in the grammar of [`LEVEL_VARIABLE`]. Lost lines are counted in
    /// `dropped`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn begin(format: Format, level: &str, dropped: Counter) -> Result<Log, Error> {
        let (log, subscriber) = Log::to(&Target::Stderr, format, level, dropped)?;
        tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::Begun)?;
        Ok(log)
    }

    /// A log to any target, and the subscriber that feeds it; nobody's default yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn to(
        target: &Target,
        format: Format,
        level: &str,
        dropped: Counter,
    ) -> Result<(Log, impl tracing::Subscriber + Send + Sync + use<>), Error> {
        let levels: Targets =
            level.parse().map_err(|problem| Error::Level { level: level.to_owned(), problem })?;
        // What it says once for each attempt, we say once.
        let levels = match level.contains(OWN_WORDS) {
            true => levels,
            false => levels.with_target(OWN_WORDS, LevelFilter::OFF),
        };
        let write = |line: &String, out: &mut Vec<u8>| out.extend_from_slice(line.as_bytes());
        let sink = Arc::new(Sink::start(target, Capacity::default(), dropped, write)?);
        let lines = fmt::layer().with_ansi(false).with_writer(Lines(Arc::clone(&sink)));
        let lines = match format {
            Format::Json => lines.json().flatten_event(true).boxed(),
            Format::Text => lines.boxed(),
        };
        let subscriber = Registry::default().with(lines.with_filter(levels));
        Ok((Log { sink }, subscriber))
    }

    /// Waits until every line is written, at most for `patience`; answers whether they were.
    pub fn flush(&self, patience: Duration) -> bool {
        self.sink.flush(patience)
    }
}

/// The level that is used when neither flag nor environment says otherwise.
pub fn default_level() -> String {
    std::env::var(LEVEL_VARIABLE).unwrap_or_else(|_| LevelFilter::INFO.to_string())
}

struct Lines(Arc<Sink<String>>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { sink: &self.0, bytes: Vec::new() }
    }
}

/// One line under construction; queued when it is dropped, with line ends inside of it escaped, so that nobody's text can
/// pass for another event.
struct Line<'a> {
    sink: &'a Sink<String>,
    bytes: Vec<u8>,
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes);
        let text = text.trim_end_matches('\n');
        if !text.is_empty() {
            self.sink.push(text.replace('\n', r"\n").replace('\r', r"\r") + "\n");
        }
    }
}
