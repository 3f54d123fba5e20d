//! Cases as they are written: one TOML file under `cases/`, one behaviour. What the fields mean stands in README.md.
//!
//! Data only; nothing here runs anything.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// One behaviour, with all that both hosts are asked and expected to do.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// The file's path under `cases/`, without its ending.
    #[serde(skip)]
    pub name: String,
    /// The behaviour in one sentence.
    pub about: String,
    /// Set where one host cannot be asked at all.
    pub only: Option<Only>,
    /// Worker threads of the host.
    #[serde(default = "one")]
    pub workers: u32,
    /// Whether the host takes the configuration.
    #[serde(default = "yes")]
    pub starts: bool,
    /// In the order in which a request passes them.
    #[serde(rename = "filter")]
    pub filters: Vec<Filter>,
    /// Servers by name; `origin`, where requests go, exists always.
    #[serde(default, rename = "backend")]
    pub backends: BTreeMap<String, Backend>,
    /// Sent one after the other, each on a connection of its own.
    #[serde(default, rename = "request")]
    pub requests: Vec<Exchange>,
    /// Connections without HTTP, before the requests, one after the other.
    #[serde(default, rename = "connection")]
    pub connections: Vec<Connection>,
    /// Lines that have to have been logged before the host is told to end, in any order.
    #[serde(default)]
    pub await_log: Vec<String>,
    /// All lines of all guests in order; with several filters each begins with its filter's name.
    pub log: Option<Vec<String>>,
    /// Counters and gauges of guests after the last request.
    #[serde(default)]
    pub metrics: BTreeMap<String, u64>,
    /// What is otherwise on one host, and where that is explained.
    #[serde(default)]
    pub differs: Vec<Differs>,
}

/// A case for one host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Only {
    /// Where it runs.
    pub host: HostName,
    /// Name of the entry in DIFFERENCES.md that says why.
    pub entry: String,
}

/// The two programs.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostName {
    /// Ours.
    Portcullis,
    /// The reference.
    Envoy,
}

impl HostName {
    /// Both.
    pub const ALL: [HostName; 2] = [HostName::Portcullis, HostName::Envoy];
}

impl std::fmt::Display for HostName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            HostName::Portcullis => "portcullis",
            HostName::Envoy => "envoy",
        })
    }
}

/// A guest with its settings; names as in `WasmFilter` documents.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    /// A folder or a `.wat` file under `guests/`, or `filters/NAME`.
    pub guest: String,
    /// Default: the last part of the guest's name.
    pub name: Option<String>,
    /// What it filters. Filters of one case are of one type.
    #[serde(default, rename = "type")]
    pub kind: FilterType,
    /// A string as its bytes, a table as JSON.
    pub config: Option<toml::Value>,
    /// `root_id`
    #[serde(default)]
    pub plugin_name: String,
    /// Default: `default/NAME`.
    pub vm_id: Option<String>,
    /// WASI environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// When the guest cannot run.
    #[serde(default)]
    pub fail_strategy: FailStrategy,
    /// Only Portcullis has a choice.
    pub isolation: Option<String>,
    /// What Pause means in a headers callback.
    #[serde(default)]
    pub allow_on_headers_stop_iteration: bool,
    /// Bounds, for Portcullis only.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
}

impl Filter {
    /// What it is called in configuration and logs.
    #[must_use]
    pub fn name(&self) -> String {
        let last = || {
            let last = self.guest.rsplit('/').next().unwrap_or(&self.guest);
            last.split('.').next().unwrap_or(last).to_owned()
        };
        self.name.clone().unwrap_or_else(last)
    }

    /// What the guest reads as its configuration.
    ///
    /// # Errors
    /// It has no JSON form.
    pub fn configuration(&self) -> Result<String> {
        Ok(match &self.config {
            None => String::new(),
            Some(toml::Value::String(text)) => text.clone(),
            Some(other) => serde_json::to_string(other)?,
        })
    }
}

/// `type`
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum FilterType {
    /// Requests.
    #[default]
    Http,
    /// Connections.
    Network,
}

/// `failStrategy`
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailStrategy {
    /// Traffic is refused.
    #[default]
    FailClose,
    /// Traffic passes without it.
    FailOpen,
    /// Traffic is refused until it runs again.
    FailReload,
}

/// A server behind the host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// Nobody listens there.
    #[serde(default)]
    pub refuses: bool,
    /// What it answers; a request's own `answer` comes first.
    #[serde(default)]
    pub answer: Answer,
}

/// Versions of HTTP.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    #[default]
    #[serde(rename = "HTTP/1.1")]
    Http1,
    /// HTTP/2 in plain text, with prior knowledge.
    #[serde(rename = "HTTP/2")]
    Http2,
    /// No HTTP: it sends its answer's body, then what it gets. Of clients: `connection` in place of `request`.
    #[serde(rename = "TCP")]
    Tcp,
}

/// What a server answers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// Default 200.
    pub status: Option<u16>,
    /// In order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// In pieces; absent with `echo`.
    #[serde(default)]
    pub body: Vec<Piece>,
    /// After the body.
    #[serde(default)]
    pub trailers: Vec<(String, String)>,
    /// The answer's body is the request's.
    #[serde(default)]
    pub echo: bool,
    /// It takes the request and never answers.
    #[serde(default)]
    pub silent: bool,
}

/// A piece of a body, or something to wait for before the next one is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Piece {
    /// Sent at once and by itself.
    Text(String),
    /// Until a guest has logged a line that contains this.
    Wait {
        /// Part of the line.
        log: String,
    },
    /// Many bytes.
    Fill {
        /// One character.
        fill: char,
        /// How often.
        count: usize,
    },
}

/// A connection through network filters, and what becomes of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connection {
    /// The client's address; default 127.0.0.1.
    pub from: Option<Ipv4Addr>,
    /// What it sends before it closes its side.
    #[serde(default)]
    pub send: Vec<Piece>,
    /// All that it gets.
    pub client: Option<String>,
}

/// A request, and what becomes of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Exchange {
    /// Default GET.
    pub method: String,
    /// Default `/`.
    pub path: String,
    /// What the client speaks.
    pub protocol: Protocol,
    /// In order, besides `host: conformance.test`.
    pub headers: Vec<(String, String)>,
    /// In pieces.
    pub body: Vec<Piece>,
    /// After the body.
    pub trailers: Vec<(String, String)>,
    /// What `origin` answers to this one.
    pub answer: Option<Answer>,
    /// What the client sees.
    pub client: Client,
    /// What `origin` sees.
    pub upstream: Option<Upstream>,
}

impl Default for Exchange {
    fn default() -> Exchange {
        Exchange {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            protocol: Protocol::default(),
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            answer: None,
            client: Client::default(),
            upstream: None,
        }
    }
}

/// What a client is expected to see; only what is given is compared.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Client {
    /// Of the response.
    pub status: Option<u16>,
    /// Values, several joined with ` | `; `false`: it is not there.
    #[serde(default)]
    pub headers: BTreeMap<String, Field>,
    /// All of it.
    pub body: Option<String>,
    /// As headers.
    #[serde(default)]
    pub trailers: BTreeMap<String, Field>,
    /// The response breaks off, or there is none.
    #[serde(default)]
    pub broken: bool,
}

/// What an origin is expected to see; only what is given is compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// False: it sees nothing.
    #[serde(default = "yes")]
    pub reached: bool,
    /// Of the request.
    pub method: Option<String>,
    /// With its query.
    pub path: Option<String>,
    /// As in [`Client`].
    #[serde(default)]
    pub headers: BTreeMap<String, Field>,
    /// All of it.
    pub body: Option<String>,
    /// As headers.
    #[serde(default)]
    pub trailers: BTreeMap<String, Field>,
}

/// A header's value, or its absence.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Field {
    /// `true`: there with any value; `false`: not there.
    Present(bool),
    /// Exactly this.
    Value(String),
}

/// What is otherwise on one host: what is given here stands in place of what the case says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Differs {
    /// Where.
    pub host: HostName,
    /// Name of the entry in DIFFERENCES.md.
    pub entry: String,
    /// Which request, from 1; needed for `client` and `upstream`.
    pub request: Option<usize>,
    /// In place of the request's.
    pub client: Option<Client>,
    /// In place of the request's.
    pub upstream: Option<Upstream>,
    /// In place of the case's.
    pub log: Option<Vec<String>>,
    /// In place of the case's.
    pub await_log: Option<Vec<String>>,
    /// In place of the case's.
    pub metrics: Option<BTreeMap<String, u64>>,
    /// In place of the case's.
    pub starts: Option<bool>,
}

impl Case {
    /// Reads one case.
    ///
    /// # Errors
    /// It is not written as README.md says.
    pub fn parse(name: &str, text: &str) -> Result<Case> {
        let case: Case = toml::from_str(text).with_context(|| format!("cases/{name}.toml"))?;
        let case = Case { name: name.to_owned(), ..case };
        ensure!(!case.filters.is_empty(), "cases/{name}.toml has no filter");
        let http = case.requests.iter().all(|request| request.protocol != Protocol::Tcp);
        ensure!(http, "cases/{name}.toml has a request without HTTP: write a connection");
        for differs in &case.differs {
            let asks = differs.client.is_some() || differs.upstream.is_some();
            match differs.request {
                None if asks => bail!("cases/{name}.toml: differs without the number of a request"),
                Some(number) if number == 0 || number > case.requests.len() => {
                    bail!("cases/{name}.toml: differs names request {number}, which is not there")
                }
                _ => {}
            }
        }
        Ok(case)
    }

    /// What it says for one host.
    #[must_use]
    pub fn on(&self, host: HostName) -> Case {
        let mut case = self.clone();
        for differs in self.differs.iter().filter(|differs| differs.host == host) {
            let differs = differs.clone();
            if let Some(request) =
                differs.request.and_then(|number| case.requests.get_mut(number - 1))
            {
                request.client = differs.client.unwrap_or_else(|| request.client.clone());
                request.upstream = differs.upstream.or_else(|| request.upstream.clone());
            }
            case.log = differs.log.or(case.log);
            case.await_log = differs.await_log.unwrap_or(case.await_log);
            case.metrics = differs.metrics.unwrap_or(case.metrics);
            case.starts = differs.starts.unwrap_or(case.starts);
        }
        case
    }

    /// Entries of DIFFERENCES.md that it leans on.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        let only = self.only.iter().map(|only| only.entry.as_str());
        only.chain(self.differs.iter().map(|differs| differs.entry.as_str()))
    }
}

/// All cases under a folder, by name.
///
/// # Errors
/// A file cannot be read or is no case.
pub fn load(folder: &Path) -> Result<Vec<Case>> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    files
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file)?;
            let inside = file.strip_prefix(folder)?.with_extension("");
            Case::parse(&inside.to_string_lossy(), &text)
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
    }
    Ok(())
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}
