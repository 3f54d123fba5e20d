//! What is asked of every proxy: `scenarios.toml`, read and checked. Nothing here knows how it is measured.

mod words;

pub use words::{Effect, Load, PeerName, Speech, Subject};

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::place;
use crate::template::{Words, replaced};

/// The same filter, once or several times.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Filters {
    /// Below `host/bench` or the workspace.
    pub module: String,
    /// How often it stands in the chain.
    #[serde(default = "once")]
    pub count: u32,
    #[serde(default)]
    config: String,
    config_file: Option<PathBuf>,
    /// Its metric that counts exchanges.
    pub counter: String,
    /// What can be seen of it.
    #[serde(default)]
    pub effect: Effect,
    /// On Envoy they share one VM; otherwise each has its own.
    #[serde(default)]
    pub share_vm: bool,
}

impl Filters {
    /// The configuration of the filter with this number; they count from 1.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn config(&self, number: u32) -> Result<String> {
        match &self.config_file {
            Some(file) => {
                let file = place::home().join(file);
                fs::read_to_string(&file).with_context(|| file.display().to_string())
            }
            None => replaced(&self.config, &Words::from([("n".to_owned(), number.to_string())])),
        }
    }
}

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// What `--only` calls it.
    pub name: String,
    /// One line for the tables.
    pub about: String,
    group: Option<String>,
    /// How often everybody is measured.
    #[serde(default = "three")]
    pub rounds: u32,
    /// Who takes part.
    #[serde(default = "everybody")]
    pub peers: Vec<PeerName>,
    /// How much is asked.
    #[serde(default = "saturated")]
    pub loads: Vec<Load>,
    /// Between client and proxy.
    #[serde(default)]
    pub client: Speech,
    /// Requests in flight.
    #[serde(default = "sixty_four")]
    pub connections: u32,
    /// A new connection for each request.
    #[serde(default)]
    pub close: bool,
    /// What is asked for.
    #[serde(default = "root")]
    pub path: String,
    /// Between proxy and upstream.
    #[serde(default)]
    pub upstream: Speech,
    /// How many routes the proxy has.
    #[serde(default = "once")]
    pub routes: u32,
    /// What the figures are about.
    #[serde(default)]
    pub figure: Subject,
    /// The proxy asks the upstream before each request.
    #[serde(default)]
    pub callout: bool,
    /// What is in the chain, on proxies that run filters.
    pub filter: Option<Filters>,
}

fn everybody() -> Vec<PeerName> {
    PeerName::ALL.to_vec()
}

fn saturated() -> Vec<Load> {
    vec![Load::Saturated]
}

fn sixty_four() -> u32 {
    64
}

fn once() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn root() -> String {
    "/".to_owned()
}

impl Scenario {
    /// Scenarios of one group are measured in the same rounds.
    #[must_use]
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(&self.name)
    }

    /// The filters as this peer has them.
    #[must_use]
    pub fn filters_on(&self, peer: PeerName) -> Option<&Filters> {
        self.filter.as_ref().filter(|_| peer.runs_filters())
    }

    /// Whether this peer goes without what the scenario is about: it runs no filters, and has nothing else for it.
    #[must_use]
    pub fn is_plain_on(&self, peer: PeerName) -> bool {
        self.filter.is_some() && !self.callout && !peer.runs_filters()
    }

    /// The prefixes that the proxy routes by.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        match self.routes {
            0 | 1 => vec![root()],
            routes => (1..=routes).map(|number| format!("/r/{number:04}")).collect(),
        }
    }

    /// What is asked for, in turn.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        match self.routes {
            0 | 1 => vec![self.path.clone()],
            _ => self.prefixes().into_iter().map(|prefix| prefix + "/x").collect(),
        }
    }

    /// How many connections idle, at most.
    #[must_use]
    pub fn most_idle(&self) -> u32 {
        let idle = |load: &Load| match load {
            Load::Idle(connections) => *connections,
            Load::Saturated | Load::Rate(_) => 0,
        };
        self.loads.iter().map(idle).max().unwrap_or(0)
    }

    /// How many requests the upstream sees for each one of a client.
    #[must_use]
    pub fn upstream_requests(&self) -> u64 {
        if self.callout { 2 } else { 1 }
    }
}

/// All scenarios, in their order.
///
/// # Errors
/// The file is not there or says something that nobody knows.
pub fn load() -> Result<Vec<Scenario>> {
    let file = place::home().join("scenarios.toml");
    parse(&fs::read_to_string(&file).with_context(|| file.display().to_string())?)
}

/// Reads scenarios.
///
/// # Errors
/// The text says something that nobody knows, a name twice, or other rounds within a group.
pub fn parse(text: &str) -> Result<Vec<Scenario>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        scenario: Vec<Scenario>,
    }
    let all = toml::from_str::<File>(text)?.scenario;
    for (at, scenario) in all.iter().enumerate() {
        let earlier = all[..at].iter().any(|other| other.name == scenario.name);
        ensure!(!earlier, "two scenarios are called {}", scenario.name);
        ensure!(!scenario.peers.is_empty(), "{} has no peers", scenario.name);
        ensure!(scenario.rounds > 0, "{} has no rounds", scenario.name);
        let apart = all
            .iter()
            .find(|other| other.group() == scenario.group() && other.rounds != scenario.rounds);
        let apart = apart.map(|other| other.name.as_str()).unwrap_or_default();
        ensure!(apart.is_empty(), "{} and {apart} have other rounds in one group", scenario.name);
    }
    Ok(all)
}

/// Those with these names, in their own order, with these peers; no names, and no peers, are all of them.
///
/// # Errors
/// No scenario is called so, or has one of these peers.
pub fn chosen(
    mut all: Vec<Scenario>,
    names: &[String],
    peers: &[PeerName],
) -> Result<Vec<Scenario>> {
    let known: Vec<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
    for name in names {
        ensure!(
            known.contains(&name.as_str()),
            "no scenario {name}; there are {}",
            known.join(", ")
        );
    }
    all.retain(|scenario| names.is_empty() || names.contains(&scenario.name));
    for scenario in &mut all {
        scenario.peers.retain(|peer| peers.is_empty() || peers.contains(peer));
    }
    all.retain(|scenario| !scenario.peers.is_empty());
    ensure!(!all.is_empty(), "none of these proxies takes part");
    Ok(all)
}
