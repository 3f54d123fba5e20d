//! What a proxy says of itself in `/status`, as far as people ask for it. Other programs read the whole.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::diagnose::{Code, OneLine, Problem};

/// A proxy, and what it says; or why nothing is known of it.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Its address, or its pod's name.
    pub name: String,
    /// What it says, and that as it came.
    pub account: Result<(Account, Value), Box<Problem>>,
}

/// The answer of `/status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Account {
    schema: String,
    pub generation: u64,
    pub since: Option<String>,
    pub ready: bool,
    pub restored_from: Option<String>,
    pub sources: Vec<Source>,
    /// What keeps everything from going live.
    pub problems: Vec<Said>,
    pub needs_restart: Vec<String>,
    proxy: Option<DataPlane>,
    pub kubernetes: Option<Kubernetes>,
}

/// A file or a ConfigMap.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Source {
    pub name: String,
    pub version: String,
    pub accepted_version: Option<String>,
    pub resource_version: Option<String>,
    pub problems: Vec<Said>,
}

/// How a source stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Live,
    /// For a module that is being fetched.
    Waiting,
    Refused,
    /// Nothing is wrong with it, but something else keeps it from going live.
    Held,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DataPlane {
    filters: Vec<Filter>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    pub name: String,
    pub state: String,
}

/// How it stands with its cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Kubernetes {
    pub selector: String,
    pub stale_since: Option<String>,
    pub namespaces: Vec<Namespace>,
    /// `resourceVersion` by `NAMESPACE/NAME`.
    pub config_maps: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    pub namespace: String,
    pub problem: Option<Said>,
}

/// A problem, as it was said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Said {
    pub code: String,
    severity: String,
    title: String,
    place: Option<Spot>,
    object: Option<String>,
    cause: Option<String>,
    hint: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spot {
    file: String,
    line: u64,
    column: u64,
}

impl Proxy {
    /// `answer`: what it has said, or why it has said nothing.
    pub fn new(name: String, answer: Result<Value, Box<Problem>>) -> Proxy {
        let read = |answer: Value| match Account::read(&answer) {
            Ok(account) => Ok((account, answer)),
            Err(cause) => {
                let problem = Problem::new(Code::P0425, "what answers is no proxy of ours");
                Err(Box::new(problem.because(cause)))
            }
        };
        Proxy { name, account: answer.and_then(read) }
    }

    /// Whether it answers, and runs everything there is.
    pub fn is_fine(&self) -> bool {
        self.account.as_ref().is_ok_and(|(account, _)| account.is_fine())
    }
}

impl Account {
    fn read(answer: &Value) -> Result<Account, String> {
        let account = Account::deserialize(answer).map_err(|error| error.to_string())?;
        match account.schema.as_str() {
            "portcullis.status/1" => Ok(account),
            other => Err(format!("its schema is {other:?}, not \"portcullis.status/1\"")),
        }
    }

    /// Whether everything there is runs.
    pub fn is_fine(&self) -> bool {
        self.ready
            && self.stale_since().is_none()
            && !self.problems.iter().any(Said::is_error)
            && self.sources.iter().all(|source| source.standing() == Standing::Live)
            && !self.filters().iter().any(|filter| filter.state == "suspended")
    }

    /// Those that are live.
    pub fn filters(&self) -> &[Filter] {
        self.proxy.as_ref().map_or(&[], |proxy| &proxy.filters)
    }

    /// Since when it may miss changes in its cluster.
    pub fn stale_since(&self) -> Option<&str> {
        self.kubernetes.as_ref()?.stale_since.as_deref()
    }
}

impl Source {
    pub fn standing(&self) -> Standing {
        let mut errors = self.problems.iter().filter(|problem| problem.is_error()).peekable();
        if errors.peek().is_some() {
            let waits = errors.all(|problem| problem.code.parse().is_ok_and(Code::is_passing));
            return if waits { Standing::Waiting } else { Standing::Refused };
        }
        match self.accepted_version.as_deref() == Some(&self.version) {
            true => Standing::Live,
            false => Standing::Held,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Live => "live",
            Standing::Waiting => "waiting",
            Standing::Refused => "refused",
            Standing::Held => "held up",
        })
    }
}

impl Said {
    pub fn is_error(&self) -> bool {
        self.severity != "warning"
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = OneLine {
            code: &self.code,
            place: self.place.as_ref().map(|place| place as &dyn fmt::Display),
            object: self.object.as_deref(),
            title: &self.title,
            cause: self.cause.as_deref(),
            hint: self.hint.as_deref(),
        };
        line.fmt(f)
    }
}
