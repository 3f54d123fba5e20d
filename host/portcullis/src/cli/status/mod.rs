//! `portcullis status`: what proxies run, what they refused, and why. Asks each for its `/status`, at an address or, through
//! the API server, in the pods of a namespace; changes nothing.

mod account;
mod direct;
mod pods;
mod show;
mod wait;

use std::path::PathBuf;

use tokio::runtime;

use super::run::namespace;
use super::{Exit, Outcome};
use crate::cluster::PROXY_SELECTOR;
use crate::diagnose::{Code, Problem};
use crate::spec::Duration;
use crate::term::Term;
use account::Proxy;
use direct::Address;

/// What was typed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    /// Admin or health addresses of proxies
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:19000")]
    pub addresses: Vec<Address>,
    /// Which pods of a cluster, in place of addresses.
    #[command(flatten)]
    pub cluster: Cluster,
}

const EXIT_CODES: &str = "\
Exit codes: 0 everything there is runs, 1 something is refused, not ready or stale, or (--wait) not there in time,
69 a proxy does not answer";

/// The name of the pods' port for health or admin, unless somebody says otherwise.
pub const PORT: &str = "health";

/// Proxies in the pods of a cluster.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Cluster {
    /// The proxies in the pods of this namespace, asked through the API server
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "addresses", value_parser = namespace)]
    pub namespace: Option<String>,
    /// Label selector of the pods
    #[arg(long, value_name = "LABELS", requires = "namespace", default_value = PROXY_SELECTOR)]
    pub selector: String,
    /// Name or number of the pods' port for health or admin
    #[arg(long, value_name = "PORT", requires = "namespace", default_value = PORT)]
    pub port: String,
    /// Credentials of a cluster [default: KUBECONFIG, ~/.kube/config, or the pod's account]
    #[arg(long, value_name = "FILE", requires = "namespace")]
    pub kubeconfig: Option<PathBuf>,
    /// Wait until every proxy runs the newest version of every ConfigMap that it watches
    #[arg(long, requires = "namespace")]
    pub wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", requires = "wait", default_value = "60s")]
    pub timeout: Duration,
}

/// Asks, and says what was answered.
pub fn run(args: &Args, term: &Term) -> Outcome {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let problem = Problem::new(Code::P0901, "no runtime").because(error.to_string());
            return Outcome::failed(Exit::Failed, problem);
        }
    };
    let outcome = runtime.block_on(async {
        match &args.cluster.namespace {
            None => outcome(&direct::ask(&args.addresses).await, Vec::new(), term),
            Some(namespace) => in_cluster(namespace, &args.cluster, term).await,
        }
    });
    // Looking a name up may take long.
    runtime.shutdown_background();
    outcome
}

/// Waits as `--wait` does for what was just written to the ConfigMap `map`, `NAMESPACE/NAME`: the names of the proxies, and who
/// of them does not run it when the time is up.
///
/// # Errors
/// A right is missing, the API server does not answer, or there is no proxy.
pub(super) async fn wait_for(
    map: &str,
    namespace: &str,
    args: &Cluster,
) -> Result<(Vec<String>, Vec<Problem>), (Exit, Box<Problem>)> {
    let (proxies, behind) = wait::wait_for(map, namespace, args).await?;
    Ok((proxies.into_iter().map(|proxy| proxy.name).collect(), behind))
}

async fn in_cluster(namespace: &str, args: &Cluster, term: &Term) -> Outcome {
    let found = match args.wait {
        false => pods::ask(namespace, args).await.map(|proxies| (proxies, Vec::new())),
        true => wait::wait(namespace, args).await,
    };
    match found {
        Ok((proxies, behind)) => outcome(&proxies, behind, term),
        Err((exit, problem)) => Outcome::failed(exit, *problem),
    }
}

/// `behind`: who does not run what the cluster holds.
fn outcome(proxies: &[Proxy], behind: Vec<Problem>, term: &Term) -> Outcome {
    let mut mute = proxies.iter().filter_map(|proxy| proxy.account.as_ref().err());
    let exit = if mute.any(|problem| problem.code != Code::P0422) {
        Exit::Unavailable
    } else if !behind.is_empty() || !proxies.iter().all(Proxy::is_fine) {
        Exit::Failed
    } else {
        Exit::Fine
    };
    let data = Some(show::json(proxies, &behind));
    Outcome {
        exit,
        text: show::text(proxies, term.out),
        data,
        problems: behind,
        ..Outcome::default()
    }
}
