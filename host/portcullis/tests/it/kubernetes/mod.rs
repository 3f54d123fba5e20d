//! Documents and modules in the ConfigMaps of a cluster: the whole program beside an API server that misbehaves on demand.

mod api;
mod certificates;
mod disk;
mod modules;
mod pods;
mod process;
mod push;
mod secrets;
mod signed;
mod status;
mod stories;
mod trouble;

use std::cell::OnceCell;
use std::io::BufReader;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use portcullis::app::{App, Settings};
use portcullis::cluster::{Access, Patience};
use portcullis::source::KubernetesSettings;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{ROUTE, backend, eventually, fetch, get, upstream};
use api::ApiServer;

pub const PROXY: &str = crate::program::PROXY;

/// An API server, and a cache that outlives the proxies beside it.
pub struct Cluster {
    pub api: ApiServer,
    pub cache: TempDir,
}

impl Cluster {
    /// With a Proxy, and a route to a server that answers `one`.
    pub fn new() -> Cluster {
        let cluster = Cluster::empty();
        cluster.api.put("shop", "proxy", &[("proxy.yaml", PROXY)]);
        let backend = backend(upstream("one"));
        cluster.api.put("shop", "app", &[("app.yaml", &backend), ("route.yaml", ROUTE)]);
        cluster
    }

    pub fn empty() -> Cluster {
        Cluster { api: ApiServer::start(), cache: tempfile::tempdir().unwrap() }
    }

    /// A proxy with little patience for failures, and much for silence.
    pub fn settings(&self) -> Settings {
        self.settings_with(self.cache.path())
    }

    pub fn settings_with(&self, cache: &Path) -> Settings {
        let patience = Patience {
            answer: Duration::from_secs(60),
            silence: Duration::from_secs(600),
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(50),
            reread: Duration::from_millis(200),
        };
        settings(&self.api.kubeconfig(), cache, patience)
    }

    pub fn app(&self) -> App {
        App::start(self.settings()).unwrap()
    }
}

pub fn settings(kubeconfig: &Path, cache: &Path, patience: Patience) -> Settings {
    let kubernetes = KubernetesSettings {
        access: Access { kubeconfig: Some(kubeconfig.to_owned()) },
        patience,
        ..KubernetesSettings::default()
    };
    Settings {
        cache: Some(cache.join("modules")),
        kubernetes: Some(kubernetes),
        admin: Some("127.0.0.1:0".parse().unwrap()),
        ..Settings::default()
    }
}

/// The server moves to where the first document wants it, and breaks off what it is asked meanwhile.
pub fn status(app: &App) -> Value {
    let said = OnceCell::new();
    let ask = || {
        let mut stream = BufReader::new(TcpStream::connect(app.admin()?).ok()?);
        get(&mut stream, "/status", &[])
    };
    eventually(|| ask().is_some_and(|(_, body)| said.set(body).is_ok()));
    serde_json::from_str(said.get().unwrap()).unwrap()
}

/// The answer to a request through the proxy.
pub fn answer(app: &App) -> String {
    fetch(app.addresses()[0].1, "/").1
}

pub fn source(app: &App, name: &str) -> Value {
    let status = status(app);
    let sources = status["sources"].as_array().unwrap().clone();
    sources.into_iter().find(|source| source["name"] == name).unwrap_or_default()
}

/// Waits until this version of a ConfigMap has been judged.
pub fn judged(app: &App, name: &str, version: &str) {
    eventually(|| source(app, &format!("configmap://{name}"))["resource_version"] == version);
}
