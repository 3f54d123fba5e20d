//! `portcullis run`: serves traffic with documents from files and folders, until it is told to stop.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use portcullis_proxy::observe::Counter;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{Exit, Outcome};
use crate::app::{App, Settings};
use crate::diagnose::{Code, Problem};
use crate::logging::{Format, Log, default_level};
use crate::term::Term;

const LAST_LINES: Duration = Duration::from_secs(1);

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file or folder of documents; may be repeated
    #[arg(short = 'c', long = "config", value_name = "PATH", required = true)]
    pub config: Vec<PathBuf>,
    /// Which Proxy document, where there are several
    #[arg(long, value_name = "NAME")]
    pub proxy: Option<String>,
    /// Where compiled modules are kept [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// Values of `--log-format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Format {
        match format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        }
    }
}

/// Serves until SIGTERM or SIGINT; a second one ends without waiting. SIGHUP reads the documents again.
pub fn run(args: &Args, term: &Term) -> Outcome {
    let log = match Log::begin(args.log_format.into(), &default_level(), Counter::default()) {
        Ok(log) => log,
        Err(error) => {
            let problem = Problem::new(Code::P0901, "cannot log").because(error.to_string());
            return Outcome::failed(Exit::Setup, problem);
        }
    };
    let outcome = serve(args, term);
    log.flush(LAST_LINES);
    outcome
}

fn serve(args: &Args, term: &Term) -> Outcome {
    let settings = Settings {
        paths: args.config.clone(),
        proxy: args.proxy.clone(),
        cache: args.cache.clone(),
    };
    let app = match App::start(settings) {
        Ok(app) => Arc::new(app),
        Err(problems) => return refused(problems),
    };
    announce(&app, term);
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(follow_signals(app)));
    match served {
        Ok(()) => Outcome::default(),
        Err(error) => {
            let problem = Problem::new(Code::P0901, "cannot listen for signals");
            Outcome::failed(Exit::Failed, problem.because(error.to_string()))
        }
    }
}

fn refused(problems: Vec<Problem>) -> Outcome {
    let exit =
        match problems.iter().any(|problem| matches!(problem.code, Code::P0501 | Code::P0502)) {
            true => Exit::Setup,
            false => Exit::Invalid,
        };
    Outcome { exit, problems, ..Outcome::default() }
}

fn announce(app: &App, term: &Term) {
    for (name, address) in app.addresses() {
        let scheme = app.board().scheme(&name);
        term.say(&format!("listening {scheme}://{address} ({name})"));
    }
    if let Some(admin) = app.admin() {
        term.say(&format!("admin http://{admin}"));
    }
    let filters = app.board().filters();
    let filters = if filters.is_empty() { "none".to_owned() } else { filters.join(", ") };
    term.say(&format!("generation {}, filters: {filters}", app.board().generation()));
}

async fn follow_signals(app: Arc<App>) -> io::Result<()> {
    let mut reload = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = reload.recv() => app.reload(),
            () = told_to_stop(&mut terminate, &mut interrupt) => break,
        }
    }
    tracing::info!("told to stop: draining; told again, it ends without waiting");
    let (drained, done) = oneshot::channel();
    thread::Builder::new().name("drain".to_owned()).spawn(move || {
        app.drain();
        // Nobody waits any more after a second signal.
        let _ = drained.send(());
    })?;
    tokio::select! {
        _ = done => {}
        () = told_to_stop(&mut terminate, &mut interrupt) => {
            tracing::warn!("told to stop again, ending without waiting");
        }
    }
    Ok(())
}

/// Cancel safe.
async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
