//! Puts the program together: sources, control, data plane, admin; and takes it apart again in order.
//!
//! It knows nothing of the command line or of signals: `run` and `demo` start the same [`App`].

mod data_plane;
mod report;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use portcullis_proxy::Proxy;
use portcullis_vm::Engine;

use crate::admin::Admin;
use crate::control::{Board, Control};
use crate::diagnose::{Code, Problem};
use crate::fetch::{Compiler, Reach, Store, open_cache};
use crate::plan::ProcessSettings;
use crate::source::{Change, Files};

use data_plane::DataPlane;
use report::Everything;

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
}

/// Everything running: traffic is served, sources are followed.
pub struct App {
    proxy: Proxy,
    process: ProcessSettings,
    board: Arc<Board>,
    ready: Arc<AtomicBool>,
    door: Sender<Change>,
    control: Option<JoinHandle<()>>,
    admin: Admin,
}

impl App {
    /// Starts with what is good of the sources; what is not is in [`Board::problems`] and in the log.
    ///
    /// # Errors
    /// Nothing is good enough to start with, or this machine does not permit it: all problems.
    pub fn start(settings: Settings) -> Result<App, Vec<Problem>> {
        let engine = Engine::new().map_err(|error| vec![internal("no Wasm engine", &error)])?;
        let cache = open_cache(settings.cache.as_deref())
            .inspect_err(|error| tracing::warn!(%error, "compiled modules are not kept"))
            .ok();
        let store = Store::new(engine.clone(), cache).within(settings.reach);
        let store = Arc::new(match settings.compiler {
            Some(compiler) => store.with(compiler),
            None => store,
        });
        let plane = DataPlane::new(engine);
        let started = plane.started();
        let files = Files::new(settings.paths);
        let mut control = Control::new(files, store.clone(), settings.proxy, plane);
        control.start()?;
        let board = control.board();
        let (Some(proxy), Some(process)) = (started.get().cloned(), board.process()) else {
            return Err(vec![Problem::new(Code::P0901, "the data plane did not start")]);
        };
        let ready = Arc::new(AtomicBool::new(true));
        let report = Everything::new(proxy.clone(), board.clone(), store, ready.clone());
        let admin = Admin::start(process.admin, process.health, Arc::new(report))
            .map_err(|error| vec![taken(&error)])?;
        let door = control.door();
        let control = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || control.serve())
            .map_err(|error| vec![internal("no thread", &error)])?;
        Ok(App { proxy, process, board, ready, door, control: Some(control), admin })
    }

    /// Name and bound address of every listener.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.proxy.addresses()
    }

    /// Where the admin server is, if there is one.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.admin
    }

    /// What became of the sources.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Reads the sources again, changed or not, and writes to access logs as they are named now. Returns at once.
    pub fn reload(&self) {
        self.proxy.reopen_logs();
        // Nobody listens only while the process ends.
        let _ = self.door.send(Change::Asked);
    }

    /// Not ready from now on; lets what is in flight come to its end, for as long as the documents allow.
    pub fn drain(&self) {
        self.ready.store(false, Ordering::Release);
        let _ = self.door.send(Change::Stop);
        let settings = self.board.settings();
        let process = settings.as_ref().unwrap_or(&self.process);
        self.proxy.drain(process.drain_delay, process.drain_timeout);
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

/// The message names the address.
fn taken(error: &std::io::Error) -> Problem {
    Problem::new(Code::P0501, "the admin or health server cannot listen")
        .because(error.to_string())
        .hint("stop what listens there, or choose another port")
}

fn internal(title: &str, error: &dyn std::error::Error) -> Problem {
    Problem::new(Code::P0901, title).because(error.to_string())
}
