//! `portcullis push configmap://NAMESPACE/NAME/KEY FILE`: writes a module where proxies of a cluster take it from.
//!
//! Pieces go first, then what names them, and then pieces that nothing names any more: whoever reads meanwhile finds the old
//! module or the new one. With `--wait` it then asks the proxies, as `portcullis status --wait` does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time;

use portcullis_vm::inspect;
use serde_json::json;

use super::run::namespace;
use super::{Exit, Outcome, status};
use crate::cluster::{
    Access, Api, Backoff, Failure, Found, PROXY_SELECTOR, Patience, SELECTOR, Written, denial,
};
use crate::diagnose::{Code, Problem};
use crate::fetch::{Index, MODULE_BYTES, ROOM, Shipment, Stowed, split_config_map, stored_bytes};
use crate::spec::{Duration, is_name};

/// How often it is tried when others write at the same time.
const ATTEMPTS: usize = 10;
/// And the pauses between.
const BETWEEN: Patience = Patience {
    first_pause: time::Duration::from_millis(50),
    longest_pause: time::Duration::from_millis(500),
    ..Patience::USUAL
};

/// What was typed for a cluster.
#[derive(Debug, clap::Args)]
pub struct ConfigMapArgs {
    /// Credentials of a cluster [default: KUBECONFIG, ~/.kube/config, or the pod's account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A label for the ConfigMaps that are written, as proxies select them; may be repeated
    #[arg(long, value_name = "NAME=VALUE", default_value = SELECTOR)]
    pub label: Vec<String>,
    /// Wait until every proxy runs what was written, and everything else that it watches; 60s unless said otherwise
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "60s")]
    pub wait: Option<Duration>,
    /// The namespace of those proxies [default: that of the ConfigMap]
    #[arg(short, long, value_name = "NAMESPACE", requires = "wait", value_parser = namespace)]
    pub namespace: Option<String>,
}

/// A key of a ConfigMap.
struct Target<'a> {
    namespace: &'a str,
    name: &'a str,
    key: &'a str,
}

/// Why nothing was written.
enum Refusal {
    Taken(String),
    Cluster(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal::Cluster(failure)
    }
}

/// Writes; the last line of the result is the pinned URL.
pub fn run(url: &str, file: &Path, args: &ConfigMapArgs) -> Outcome {
    let Some(target) = target(url) else {
        let problem = Problem::new(Code::P0111, format!("{url:?} is no place for a module"));
        let hint = "write configmap://NAMESPACE/NAME/KEY, with a KEY that ends in .wasm";
        return Outcome::failed(Exit::Invalid, problem.hint(hint));
    };
    let labels: Option<BTreeMap<String, String>> =
        args.label.iter().map(|one| label(one)).collect();
    let Some(labels) = labels else {
        let problem = Problem::new(Code::P0111, "a label is NAME=VALUE");
        return Outcome::failed(Exit::Invalid, problem);
    };
    let module = match read(file) {
        Ok(module) => module,
        Err(problem) => return Outcome::failed(Exit::Invalid, *problem),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let problem = Problem::new(Code::P0901, "no runtime").because(error.to_string());
            return Outcome::failed(Exit::Failed, problem);
        }
    };
    let access = Access { kubeconfig: args.kubeconfig.clone() };
    let outcome = runtime.block_on(async {
        match (push(&access, &target, &labels, &module).await, args.wait) {
            (Ok(pushed), Some(limit)) => until_it_runs(&target, &pushed, limit, args).await,
            (Ok(pushed), None) => report(&target, &pushed, &[]),
            (Err(refusal), _) => refused(url, refusal),
        }
    });
    // Looking a name up may take long.
    runtime.shutdown_background();
    outcome
}

/// Waits for the proxies; what was written is told whatever comes of it.
async fn until_it_runs(
    target: &Target<'_>,
    pushed: &Pushed,
    timeout: Duration,
    args: &ConfigMapArgs,
) -> Outcome {
    let namespace = args.namespace.as_deref().unwrap_or(target.namespace);
    let pods = status::Cluster {
        namespace: Some(namespace.to_owned()),
        selector: PROXY_SELECTOR.to_owned(),
        port: status::PORT.to_owned(),
        kubeconfig: args.kubeconfig.clone(),
        wait: true,
        timeout,
    };
    let map = format!("{}/{}", target.namespace, target.name);
    match status::wait_for(&map, namespace, &pods).await {
        Ok((proxies, behind)) if behind.is_empty() => report(target, pushed, &proxies),
        Ok((_, problems)) => {
            Outcome { exit: Exit::Failed, problems, ..report(target, pushed, &[]) }
        }
        Err((exit, problem)) => {
            Outcome { exit, problems: vec![*problem], ..report(target, pushed, &[]) }
        }
    }
}

fn target(url: &str) -> Option<Target<'_>> {
    let (map, key) = split_config_map(Path::new(url))?;
    let (namespace, name) = map.split_once('/')?;
    let right = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = is_name(namespace) && is_name(name) && key.bytes().all(right);
    (fits && key.ends_with(".wasm")).then_some(Target { namespace, name, key })
}

fn label(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

fn read(file: &Path) -> Result<Vec<u8>, Box<Problem>> {
    let named = file.display();
    let module = stored_bytes(file, MODULE_BYTES).map_err(|error| {
        Problem::new(Code::P0401, format!("cannot read {named}")).because(error.to_string())
    })?;
    match inspect(&module).and_then(|module| module.verdict()) {
        Ok(_) => Ok(module),
        Err(error) => {
            let problem = Problem::new(Code::P0203, format!("{named} cannot be used"));
            let hint = "`portcullis inspect` says more; only what runs here is pushed";
            Err(Box::new(problem.because(error.to_string()).hint(hint)))
        }
    }
}

/// What was written: name of the ConfigMap, key, bytes.
struct Pushed {
    shipment: Shipment,
    written: Vec<(String, String, usize)>,
    deleted: Vec<String>,
}

async fn push(
    access: &Access,
    target: &Target<'_>,
    labels: &BTreeMap<String, String>,
    module: &[u8],
) -> Result<Pushed, Refusal> {
    let api = Api::new(access, Patience::default()).await?;
    let mut backoff = Backoff::new(&BETWEEN);
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        let written = match found(&api, target).await {
            Ok(found) => attempt(&api, target, labels, module, found).await,
            Err(failure) => Err(failure.into()),
        };
        match written {
            // Somebody wrote to it meanwhile.
            Err(Refusal::Cluster(failure)) if failure.status() == Some(409) && left > 0 => {
                tokio::time::sleep(backoff.pause(None)).await;
            }
            other => return other,
        }
    }
}

/// What is there, with a version by which to notice that somebody else writes. Without one, pushes that find nothing at the
/// same time would take away each other's keys: they are all the same field manager.
async fn found(api: &Api, target: &Target<'_>) -> Result<Found, Failure> {
    let found = api.find(target.namespace, target.name).await?;
    match found.resource_version {
        Some(_) => Ok(found),
        None => api.create(target.namespace, target.name).await,
    }
}

async fn attempt(
    api: &Api,
    target: &Target<'_>,
    labels: &BTreeMap<String, String>,
    module: &[u8],
    found: Found,
) -> Result<Pushed, Refusal> {
    let forms = ["", ".gz", ".zst", ".index"].map(|ending| format!("{}{ending}", target.key));
    if let Some(taken) = forms.iter().find(|form| found.theirs.contains_key(*form)) {
        return Err(Refusal::Taken(taken.clone()));
    }
    let mut ours = found.ours;
    let before = pieces(&ours);
    for form in &forms {
        ours.texts.remove(form);
        ours.binaries.remove(form);
    }
    let taken = ours.size() + found.theirs.values().sum::<usize>();
    let unable = |error: std::io::Error| Failure::Access(error.to_string());
    let shipment =
        Shipment::new(target.name, module, ROOM.saturating_sub(taken)).map_err(unable)?;
    let mut written = Vec::new();
    for (name, key, piece) in &shipment.pieces {
        let part_of = found.uid.clone().map(|uid| (target.name.to_owned(), uid));
        let mut one = Written { part_of, ..Written::default() };
        one.binaries.insert((*key).to_owned(), piece.clone());
        api.apply((target.namespace, name), labels, &one, None).await?;
        written.push((name.clone(), (*key).to_owned(), piece.len()));
    }
    let (key, bytes) = match &shipment.content {
        Stowed::Whole(bytes) => {
            let key = format!("{}.gz", target.key);
            ours.binaries.insert(key.clone(), bytes.clone());
            (key, bytes.len())
        }
        Stowed::Index(text) => {
            let key = format!("{}.index", target.key);
            ours.texts.insert(key.clone(), text.clone());
            (key, text.len())
        }
    };
    api.apply((target.namespace, target.name), labels, &ours, found.resource_version).await?;
    written.push((target.name.to_owned(), key, bytes));
    let after = pieces(&ours);
    let mut deleted = Vec::new();
    for name in before.difference(&after) {
        api.delete(target.namespace, name).await?;
        deleted.push(name.clone());
    }
    Ok(Pushed { shipment, written, deleted })
}

/// The ConfigMaps that indexes in `written` name.
fn pieces(written: &Written) -> BTreeSet<String> {
    let indexes = written.texts.iter().filter(|(key, _)| key.ends_with(".wasm.index"));
    let indexes = indexes.filter_map(|(_, text)| serde_json::from_str::<Index>(text).ok());
    indexes.flat_map(|index| index.pieces).map(|piece| piece.config_map).collect()
}

/// `proxies`: who is known to run it.
fn report(target: &Target<'_>, pushed: &Pushed, proxies: &[String]) -> Outcome {
    let Target { namespace, name, key } = target;
    let pinned = format!("configmap://{namespace}/{name}/{key}@sha256:{}", pushed.shipment.digest);
    let line = |(name, key, bytes): &(String, String, usize)| {
        format!("wrote configmap://{namespace}/{name}/{key}, {bytes} bytes\n")
    };
    let mut text: String = pushed.written.iter().map(line).collect();
    for name in &pushed.deleted {
        text.push_str(&format!("deleted configmap://{namespace}/{name}, a piece of before\n"));
    }
    if !proxies.is_empty() {
        text.push_str(&format!("live in {}\n", proxies.join(", ")));
    }
    text.push_str(&pinned);
    let written = |(name, key, bytes): &(String, String, usize)| json!({"namespace": namespace, "name": name, "key": key, "bytes": bytes});
    let data = json!({
        "schema": "portcullis.push.configmap/1",
        "written": pushed.written.iter().map(written).collect::<Vec<_>>(),
        "deleted": pushed.deleted,
        "live_in": proxies,
        "sha256": pushed.shipment.digest.to_string(),
        "pinned": pinned,
    });
    Outcome::fine(text, data)
}

fn refused(url: &str, refusal: Refusal) -> Outcome {
    let failure = match refusal {
        Refusal::Cluster(failure) => failure,
        Refusal::Taken(key) => {
            let problem = Problem::new(Code::P0423, format!("{url} is somebody else's"));
            let cause = format!("the key {key} was not written by `portcullis push`");
            let hint = "remove that key, or choose another one";
            return Outcome::failed(Exit::Failed, problem.because(cause).hint(hint));
        }
    };
    let grant = "push needs get, create, patch and delete on configmaps in that namespace";
    if let Some(problem) = denial(&failure, &format!("write {url}"), grant) {
        return Outcome::failed(Exit::Failed, problem);
    }
    let problem = Problem::new(Code::P0421, format!("cannot write {url}"));
    let exit = if failure.status().is_some() { Exit::Failed } else { Exit::Unavailable };
    Outcome::failed(exit, problem.because(failure.to_string()))
}
