//! A folder of documents under control, with a data plane that only takes notes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use portcullis::control::{Board, Control, Eagerness, Plane};
use portcullis::fetch::Store;
use portcullis::plan::ProcessSettings;
use portcullis::source::Files;
use portcullis_proxy::snapshot::Filter;
use portcullis_proxy::{Refusal, Snapshot};
use portcullis_vm::{Death, Engine, TrapReason};
use serde_json::Value;
use tempfile::TempDir;

pub const PROXY: &str = r#"
apiVersion: portcullis.dev/v1alpha1
kind: Proxy
metadata: {name: edge}
spec:
  listeners: [{name: web, address: "127.0.0.1:8080", direction: GATEWAY, protocol: HTTP}]
"#;

/// A module that starts, and one that does not even load.
pub const QUIET: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_on_tick") (param i32)))"#;
pub const LOUD: &str = r#"(module
  (memory (export "memory") 2)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 2048)
  (func (export "proxy_on_tick") (param i32)))"#;
pub const STRANGE: &str = r#"(module
  (import "env" "no_such_function" (func))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1")))"#;

pub fn backend(name: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: Backend\nmetadata: {{name: {name}}}\n\
         spec: {{protocol: HTTP, endpoints: [{{address: \"127.0.0.1:9001\"}}]}}\n"
    )
}

pub fn route(name: &str, backend: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
         spec: {{rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]}}\n"
    )
}

pub fn filter(name: &str, config: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: {name}}}\n\
         spec: {{url: \"file://{name}.wasm\", pluginConfig: {config:?}}}\n"
    )
}

#[derive(Default)]
pub struct Notes {
    pub published: Vec<Snapshot>,
    pub rehearsed: usize,
    pub taken: BTreeSet<u16>,
    /// Refuse snapshots with this backend as contradictory.
    pub odd: &'static str,
}

/// Refuses filters configured with `bad`, and ports that are taken.
pub struct Fake(Arc<Mutex<Notes>>);

impl Plane for Fake {
    fn rehearse(&mut self, filter: &Arc<Filter>, _: &ProcessSettings) -> Result<(), Refusal> {
        self.0.lock().unwrap().rehearsed += 1;
        if filter.plugin.configuration != "bad" {
            return Ok(());
        }
        let message = "it answered no in proxy_on_configure".to_owned();
        let trap = Death { reason: TrapReason::Refused, message, backtrace: Vec::new() }.into();
        Err(Refusal::Filter { name: filter.name.clone(), trap })
    }

    fn publish(&mut self, snapshot: Snapshot, _: &ProcessSettings) -> Result<(), Refusal> {
        let mut notes = self.0.lock().unwrap();
        let taken = snapshot
            .listeners
            .iter()
            .find(|listener| notes.taken.contains(&listener.address.port()));
        if let Some(listener) = taken {
            return Err(Refusal::Listener {
                name: listener.name.clone(),
                address: listener.address,
                problem: io::ErrorKind::AddrInUse.into(),
            });
        }
        let log = snapshot.access_log.as_ref().filter(|log| log.path.starts_with("/missing/"));
        if let Some(log) = log {
            let problem = "no such folder".to_owned();
            return Err(Refusal::AccessLog { path: log.path.clone(), problem });
        }
        if snapshot.backends.iter().any(|backend| *backend.name == *notes.odd) {
            return Err(Refusal::Snapshot("odd".to_owned()));
        }
        notes.published.push(snapshot);
        Ok(())
    }
}

fn control(folders: Vec<PathBuf>, notes: &Arc<Mutex<Notes>>) -> Control<Fake> {
    let store = Arc::new(Store::new(Engine::new().unwrap(), None));
    Control::new(Files::new(folders), store, None, Fake(notes.clone()))
}

/// A folder of documents under control.
pub struct House {
    pub folder: TempDir,
    pub control: Control<Fake>,
    pub board: Arc<Board>,
    pub notes: Arc<Mutex<Notes>>,
}

impl House {
    pub fn new(files: &[(&str, &str)]) -> House {
        let folder = tempfile::tempdir().unwrap();
        let notes = Arc::new(Mutex::new(Notes::default()));
        let control = control(vec![folder.path().to_owned()], &notes);
        let house = House { folder, board: control.board(), control, notes };
        files.iter().for_each(|(name, text)| house.write(name, text));
        house
    }

    /// A house that has started.
    pub fn living(files: &[(&str, &str)]) -> House {
        let mut house = House::new(files);
        house.control.start().unwrap();
        house
    }

    /// Puts another folder under control too.
    pub fn join(&mut self, folder: &Path) {
        self.control = control(vec![self.path().to_owned(), folder.to_owned()], &self.notes);
        self.board = self.control.board();
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        let bytes = match name.ends_with(".wasm") {
            true => wat::parse_str(text).unwrap(),
            false => text.as_bytes().to_vec(),
        };
        fs::write(self.path().join(name), bytes).unwrap();
    }

    pub fn delete(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }

    pub fn edit(&mut self, name: &str, text: &str) {
        self.write(name, text);
        self.control.round(Eagerness::WhenChanged);
    }

    pub fn source(&self, name: &str) -> Value {
        let status = self.board.status();
        let sources = status["sources"].as_array().unwrap().clone();
        let file = format!("{}/{name}", self.path().display());
        sources.into_iter().find(|source| source["name"] == file.as_str()).unwrap()
    }

    /// Live: names of routes, backends and filters in the last snapshot; and its generation.
    pub fn live(&self) -> (u64, Vec<String>) {
        let notes = self.notes.lock().unwrap();
        let Some(snapshot) = notes.published.last() else { return (0, Vec::new()) };
        let short = |name: &Arc<str>| name.replace("default/", "");
        let mut names: Vec<String> =
            snapshot.routes.iter().map(|route| short(&route.name)).collect();
        names.extend(snapshot.backends.iter().map(|backend| short(&backend.name)));
        names.extend(snapshot.filters.iter().map(|filter| {
            let configuration = String::from_utf8_lossy(&filter.plugin.configuration).into_owned();
            format!("{}={configuration}", short(&filter.name))
        }));
        (snapshot.generation, names)
    }

    #[track_caller]
    pub fn check(&self, generation: u64, names: &[&str]) {
        let (live, found) = self.live();
        assert_eq!(
            (live, found.iter().map(String::as_str).collect()),
            (generation, names.to_vec())
        );
        assert_eq!(self.board.generation(), generation);
    }

    /// The codes of everything that is wrong now, with the file.
    pub fn problems(&self) -> Vec<String> {
        let status = self.board.status();
        let mut found = Vec::new();
        for source in status["sources"].as_array().unwrap() {
            let file = source["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            for problem in source["problems"].as_array().unwrap() {
                found.push(format!("{file} {}", problem["code"].as_str().unwrap()));
            }
        }
        let whole = status["problems"].as_array().unwrap();
        found.extend(whole.iter().map(|problem| problem["code"].as_str().unwrap().to_owned()));
        found
    }
}
