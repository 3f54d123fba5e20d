//! Puts the program together: sources, control, data plane, admin; and takes it apart again in order.
//!
//! It knows nothing of the command line or of signals: `run` and `demo` start the same [`App`].

mod data_plane;
mod report;
mod servers;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use portcullis_proxy::Proxy;
use portcullis_vm::Engine;

use crate::control::{Board, Control, LastGood};
use crate::diagnose::{Code, Problem};
use crate::fetch::{Compiler, Reach, Store, open_cache};
use crate::source::{Change, Files, KubernetesSettings, View};

use data_plane::DataPlane;
use report::Everything;
use servers::Servers;

/// What the program is started with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Files and folders of documents.
    pub paths: Vec<PathBuf>,
    /// The Proxy document that is meant, where there are several.
    pub proxy: Option<String>,
    /// Where compiled modules are kept; `None`: the user's cache folder.
    pub cache: Option<PathBuf>,
    /// Who compiles them; `None`: this process.
    pub compiler: Option<Compiler>,
    /// Whether modules may be fetched.
    pub reach: Reach,
    /// The ConfigMaps of a cluster, where there is one.
    pub kubernetes: Option<KubernetesSettings>,
    /// Where the admin server listens, where no document says so.
    pub admin: Option<SocketAddr>,
    /// Where the health server listens, where no document says so.
    pub health: Option<SocketAddr>,
}

/// Everything running: traffic is served, sources are followed.
pub struct App {
    /// Empty until something is live.
    proxy: Arc<OnceLock<Proxy>>,
    board: Arc<Board>,
    ready: Arc<AtomicBool>,
    door: Sender<Change>,
    control: Option<JoinHandle<()>>,
    servers: Arc<Servers>,
}

impl App {
    /// Starts with what is good of the sources; what is not is in [`Board::problems`] and in the log. With a cluster it
    /// runs without anything good as well, not ready, until something comes.
    ///
    /// # Errors
    /// Nothing is good enough to start with, or this machine does not permit it: all problems.
    pub fn start(settings: Settings) -> Result<App, Vec<Problem>> {
        let engine = Engine::new().map_err(|error| vec![internal("no Wasm engine", &error)])?;
        let addresses = (settings.admin, settings.health);
        let cache = open_cache(settings.cache.as_deref())
            .inspect_err(|error| tracing::warn!(%error, "compiled modules are not kept"))
            .ok();
        let folder = cache.as_ref().map(|cache| cache.folder().join("last-good"));
        let store = Store::new(engine.clone(), cache).within(settings.reach);
        let store = Arc::new(match settings.compiler {
            Some(compiler) => store.with(compiler),
            None => store,
        });
        let plane = DataPlane::new(engine);
        let started = plane.started();
        let files = Files::new(settings.paths);
        let mut control = Control::new(files, store.clone(), settings.proxy, plane);
        let cluster = match settings.kubernetes {
            Some(wanted) => Some(connect(&mut control, wanted, folder.as_deref())?),
            None => None,
        };
        let begun = control.start();
        if cluster.is_none() {
            begun?;
        }
        let (board, ready) = (control.board(), Arc::new(AtomicBool::new(true)));
        let (proxy, ready_too) = (started.clone(), ready.clone());
        let report =
            Everything { proxy: started, board: board.clone(), store, ready: ready_too, cluster };
        let servers = Arc::new(Servers::new(addresses, Arc::new(report)));
        servers.open(&board).map_err(|error| vec![taken(&error)])?;
        let door = control.door();
        let (later, shown) = (servers.clone(), board.clone());
        let control = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || follow(control, &later, &shown))
            .map_err(|error| vec![internal("no thread", &error)])?;
        Ok(App { proxy, board, ready, door, control: Some(control), servers })
    }

    /// Name and bound address of every listener.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.proxy.get().map(Proxy::addresses).unwrap_or_default()
    }

    /// Where the admin server is, if there is one.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.servers.admin()
    }

    /// What became of the sources.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Reads the sources again, changed or not, and writes to access logs as they are named now. Returns at once.
    pub fn reload(&self) {
        if let Some(proxy) = self.proxy.get() {
            proxy.reopen_logs();
        }
        // Nobody listens only while the process ends.
        let _ = self.door.send(Change::Asked);
    }

    /// Not ready from now on; lets what is in flight come to its end, for as long as the documents allow.
    pub fn drain(&self) {
        self.ready.store(false, Ordering::Release);
        let _ = self.door.send(Change::Stop);
        if let (Some(proxy), Some(process)) = (self.proxy.get(), self.board.settings()) {
            proxy.drain(process.drain_delay, process.drain_timeout);
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.door.send(Change::Stop);
        if let Some(control) = self.control.take() {
            // A control thread that panicked has said so itself.
            let _ = control.join();
        }
    }
}

/// Follows a cluster, with what was live of it at the last run.
fn connect(
    control: &mut Control<DataPlane>,
    settings: KubernetesSettings,
    folder: Option<&Path>,
) -> Result<Arc<View>, Vec<Problem>> {
    let view = control.connect(settings).map_err(|failure| {
        let problem = Problem::new(Code::P0421, "nobody says which cluster is meant");
        let hint = "run in a pod with a service account, or name a kubeconfig with --kubeconfig";
        vec![problem.because(failure.to_string()).hint(hint)]
    })?;
    let folder = folder.ok_or_else(|| io::Error::other("there is no cache"));
    control.remember(folder.and_then(|folder| LastGood::open(folder, &view.identity())));
    Ok(view)
}

fn follow(mut control: Control<DataPlane>, servers: &Servers, board: &Board) {
    if board.generation() == 0 {
        tracing::warn!("not ready: there is no configuration yet");
        if !control.wait() {
            return;
        }
        if let Err(error) = servers.open(board) {
            tracing::error!("{}", taken(&error));
        }
    }
    control.serve();
}

/// The message names the address.
fn taken(error: &io::Error) -> Problem {
    Problem::new(Code::P0501, "the admin or health server cannot listen")
        .because(error.to_string())
        .hint("stop what listens there, or choose another port")
}

fn internal(title: &str, error: &dyn std::error::Error) -> Problem {
    Problem::new(Code::P0901, title).because(error.to_string())
}
