//! Waits until the proxies of a namespace run the newest version of every ConfigMap that they watch.
//!
//! Proxies are asked first, and the API server after them: what was written before the wait began is live when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{self, Instant};

use super::Cluster;
use super::account::{Account, Kubernetes, Proxy, Source, Standing};
use super::pods::{Refusal, api, nobody, read, unlisted};
use crate::cluster::{Api, Failure, Patience};
use crate::diagnose::{Code, Problem};
use crate::plan::CONFIG_MAP;
use crate::spec::is_name;

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// Reasons that are shown of each proxy.
const REASONS: usize = 5;

/// Namespace and selector, and the ConfigMaps there: `resourceVersion` by `NAMESPACE/NAME`.
type Held = BTreeMap<(String, String), BTreeMap<String, String>>;

/// The proxies, and which of them do not run what the cluster holds when the time is up.
///
/// # Errors
/// A right is missing, or when the time is up the API server does not answer, or there is no proxy.
pub async fn wait(namespace: &str, args: &Cluster) -> Result<(Vec<Proxy>, Vec<Problem>), Refusal> {
    let (timeout, usual) = (args.timeout.get(), Patience::default().answer);
    // Less would not be enough for one answer.
    let api = api(args, usual.min(timeout.max(Duration::from_secs(5)))).await?;
    let end = Instant::now() + timeout;
    loop {
        let round = round(&api, namespace, args).await;
        let late = Instant::now() >= end;
        match round {
            Ok((proxies, behind)) if late || behind.is_empty() => return Ok((proxies, behind)),
            Err((failure, refusal)) if late || is_final(failure.as_ref()) => return Err(refusal),
            _ => {}
        }
        time::sleep_until(end.min(Instant::now() + PAUSE)).await;
    }
}

/// [`wait`] for what was just written to the ConfigMap `map`, `NAMESPACE/NAME`. A proxy that does not watch it is behind
/// as well.
///
/// # Errors
/// See there.
pub async fn wait_for(
    map: &str,
    namespace: &str,
    args: &Cluster,
) -> Result<(Vec<Proxy>, Vec<Problem>), Refusal> {
    let (proxies, mut behind) = wait(namespace, args).await?;
    if behind.is_empty() {
        behind.extend(proxies.iter().filter_map(|proxy| blind(proxy, map)));
    }
    Ok((proxies, behind))
}

fn blind(proxy: &Proxy, map: &str) -> Option<Problem> {
    let (account, _) = proxy.account.as_ref().ok()?;
    let watched = account.kubernetes.as_ref().map(|cluster| &cluster.config_maps);
    if watched.is_some_and(|maps| maps.contains_key(map)) {
        return None;
    }
    let problem = Problem::new(Code::P0426, format!("{} does not watch {map}", proxy.name));
    Some(problem.hint("it watches its own namespace and the mesh-wide one, by label"))
}

/// Whether asking again is of no use.
fn is_final(failure: Option<&Failure>) -> bool {
    failure.is_some_and(|failure| matches!(failure.status(), Some(401 | 403)))
}

/// A failure, if it was one, and how it is told.
type Broken = (Option<Failure>, Refusal);

async fn round(
    api: &std::sync::Arc<Api>,
    namespace: &str,
    args: &Cluster,
) -> Result<(Vec<Proxy>, Vec<Problem>), Broken> {
    let proxies = read(api, namespace, args).await.map_err(|failure| {
        let told = unlisted(&failure, "pods", namespace);
        (Some(failure), told)
    })?;
    if proxies.is_empty() {
        return Err((None, nobody(namespace, args)));
    }
    let held = held(api, &proxies).await?;
    let behind = proxies.iter().filter_map(|proxy| behind(proxy, &held)).collect();
    Ok((proxies, behind))
}

/// What the cluster holds now, wherever the proxies say that they look.
async fn held(api: &Api, proxies: &[Proxy]) -> Result<Held, Broken> {
    let accounts = proxies.iter().filter_map(|proxy| proxy.account.as_ref().ok());
    let clusters = accounts.filter_map(|(account, _)| account.kubernetes.as_ref());
    let places: BTreeSet<(String, String)> = clusters.flat_map(places).collect();
    let mut held = Held::new();
    for (namespace, selector) in places {
        let found = api.revisions(&namespace, &selector).await.map_err(|failure| {
            let told = unlisted(&failure, "configmaps", &namespace);
            (Some(failure), told)
        })?;
        held.insert((namespace, selector), found);
    }
    Ok(held)
}

/// Where a proxy looks. What is no name of a namespace makes no path.
fn places(cluster: &Kubernetes) -> impl Iterator<Item = (String, String)> {
    let names = cluster.namespaces.iter().map(|one| &one.namespace).filter(|name| is_name(name));
    names.map(|name| (name.clone(), cluster.selector.clone()))
}

/// Why a proxy does not run what the cluster holds.
fn behind(proxy: &Proxy, held: &Held) -> Option<Problem> {
    let reasons = match &proxy.account {
        Err(problem) => vec![problem.to_string()],
        Ok((account, _)) => reasons(account, held),
    };
    if reasons.is_empty() {
        return None;
    }
    let title = format!("{} does not run what the cluster holds", proxy.name);
    let mut cause = reasons.iter().take(REASONS).cloned().collect::<Vec<_>>().join("; ");
    if reasons.len() > REASONS {
        cause.push_str(&format!("; and {} more", reasons.len() - REASONS));
    }
    Some(Problem::new(Code::P0426, title).because(cause))
}

fn reasons(account: &Account, held: &Held) -> Vec<String> {
    let Some(cluster) = &account.kubernetes else { return Vec::new() };
    let wanted: BTreeMap<&String, &String> =
        places(cluster).filter_map(|place| held.get(&place)).flatten().collect();
    let judged = &cluster.config_maps;
    let unseen = wanted.iter().filter_map(|(name, version)| match judged.get(*name) {
        Some(known) if known == *version => None,
        Some(known) => Some(format!("{name}: it has seen {known}, and the newest is {version}")),
        None => Some(format!("{name}: it has not seen it")),
    });
    let gone = judged.keys().filter(|name| !wanted.contains_key(name));
    let gone = gone.map(|name| format!("{name}: it has not seen that it is gone"));
    let idle = account.sources.iter().filter_map(idle);
    let deaf = account.stale_since();
    let deaf = deaf.map(|since| format!("it is without news of the API server since {since}"));
    let whole = account.problems.iter().filter(|problem| problem.is_error());
    unseen.chain(gone).chain(idle).chain(deaf).chain(whole.map(ToString::to_string)).collect()
}

/// Why a ConfigMap that has been seen is not live.
fn idle(source: &Source) -> Option<String> {
    let name = source.name.strip_prefix(CONFIG_MAP)?;
    let standing = source.standing();
    if standing == Standing::Live {
        return None;
    }
    let problem = source.problems.iter().find(|problem| problem.is_error());
    let why = problem.map(|problem| format!(": {problem}")).unwrap_or_default();
    let version = source.resource_version.as_deref().unwrap_or("unknown");
    Some(format!("{name}: {version} is {standing}{why}"))
}
