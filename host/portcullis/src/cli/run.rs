//! `portcullis run`: serves traffic with documents from files and folders, or from the ConfigMaps of a cluster, until it is
//! told to stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use portcullis_proxy::observe::Counter;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{Exit, Outcome};
use crate::app::{App, Settings};
use crate::cluster::{self, Access, Patience};
use crate::diagnose::{Code, Problem};
use crate::fetch::{Compiler, Reach};
use crate::logging::{Format, Log, default_level};
use crate::source::KubernetesSettings;
use crate::spec::is_name;
use crate::term::Term;

const LAST_LINES: Duration = Duration::from_secs(1);

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file or folder of documents; may be repeated
    #[arg(
        short = 'c',
        long = "config",
        value_name = "PATH",
        required_unless_present = "kubernetes"
    )]
    pub config: Vec<PathBuf>,
    #[command(flatten)]
    pub cluster: Cluster,
    /// Which Proxy document, where there are several
    #[arg(long, value_name = "NAME")]
    pub proxy: Option<String>,
    /// Where compiled modules are kept [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Fetch nothing: modules from registries and servers are those that were fetched before
    #[arg(long)]
    pub offline: bool,
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Where the admin server listens until a document says so, and if none does
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// Where the health server listens until a document says so, and if none does
    #[arg(long, value_name = "ADDRESS")]
    pub health: Option<SocketAddr>,
}

/// Documents in the ConfigMaps of a cluster.
#[derive(Debug, clap::Args)]
pub struct Cluster {
    /// Take documents from the ConfigMaps of a Kubernetes cluster, and follow them
    #[arg(long)]
    pub kubernetes: bool,
    /// Namespace of this proxy's own ConfigMaps [default: that of the pod, or of the kubeconfig's context]
    #[arg(long, value_name = "NAMESPACE", requires = "kubernetes", value_parser = namespace)]
    pub namespace: Option<String>,
    /// Namespace of the ConfigMaps that concern every proxy
    #[arg(long, value_name = "NAMESPACE", requires = "kubernetes", value_parser = namespace,
          default_value = cluster::ROOT_NAMESPACE)]
    pub root_namespace: String,
    /// Label selector of the ConfigMaps that are meant
    #[arg(long, value_name = "LABELS", requires = "kubernetes", default_value = cluster::SELECTOR)]
    pub selector: String,
    /// Credentials of a cluster [default: KUBECONFIG, ~/.kube/config, or the pod's account]
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    pub kubeconfig: Option<PathBuf>,
}

impl Cluster {
    fn settings(&self) -> Option<KubernetesSettings> {
        self.kubernetes.then(|| KubernetesSettings {
            access: Access { kubeconfig: self.kubeconfig.clone() },
            namespace: self.namespace.clone(),
            root_namespace: self.root_namespace.clone(),
            selector: self.selector.clone(),
            patience: Patience::default(),
        })
    }
}

pub(super) fn namespace(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("lower case letters, digits and `-`".to_owned()),
    }
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
    // Before anything else: until then, the system ends the process at a signal.
    let (runtime, signals) = match listen_for_signals() {
        Ok(listening) => listening,
        Err(error) => return deaf(&error),
    };
    let settings = Settings {
        paths: args.config.clone(),
        proxy: args.proxy.clone(),
        cache: args.cache.clone(),
        compiler: Some(Compiler::this_program()),
        reach: if args.offline { Reach::Offline } else { Reach::Network },
        kubernetes: args.cluster.settings(),
        admin: args.admin,
        health: args.health,
    };
    let app = match App::start(settings) {
        Ok(app) => Arc::new(app),
        Err(problems) => return refused(problems),
    };
    announce(&app, term);
    match runtime.block_on(signals.follow(app)) {
        Ok(()) => Outcome::default(),
        Err(error) => deaf(&error),
    }
}

fn deaf(error: &io::Error) -> Outcome {
    let problem = Problem::new(Code::P0901, "cannot listen for signals");
    Outcome::failed(Exit::Failed, problem.because(error.to_string()))
}

fn listen_for_signals() -> io::Result<(Runtime, Signals)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let signals = Signals::listen()?;
    drop(entered);
    Ok((runtime, signals))
}

fn refused(problems: Vec<Problem>) -> Outcome {
    let any = |codes: &[Code]| problems.iter().any(|problem| codes.contains(&problem.code));
    let exit = if any(&[Code::P0421, Code::P0501, Code::P0502]) {
        Exit::Setup
    } else if any(&[Code::P0404, Code::P0405, Code::P0406, Code::P0409, Code::P0412]) {
        Exit::Unavailable
    } else {
        Exit::Invalid
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
    if app.board().generation() == 0 {
        return term.say("not ready: no configuration yet; waiting for one");
    }
    term.say(&format!("generation {}, filters: {filters}", app.board().generation()));
}

/// The signals that the program follows. One that comes while nobody waits is kept.
struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        Ok(Signals {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn follow(mut self, app: Arc<App>) -> io::Result<()> {
        loop {
            tokio::select! {
                _ = self.reload.recv() => app.reload(),
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
            }
        }
        tracing::info!("told to stop: draining; told again, it ends without waiting");
        let (drained, done) = oneshot::channel();
        thread::Builder::new().name("drain".to_owned()).spawn(move || {
            app.drain();
            // Nobody waits any more after a second signal.
            let _ = drained.send(());
        })?;
        let told_again = || tracing::warn!("told to stop again, ending without waiting");
        tokio::select! {
            _ = done => {}
            _ = self.terminate.recv() => told_again(),
            _ = self.interrupt.recv() => told_again(),
        }
        Ok(())
    }
}
