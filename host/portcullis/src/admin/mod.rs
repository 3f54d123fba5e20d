//! The admin and health servers: what people, kubelet and scrapers ask of a running proxy, on a thread of their own.
//!
//! Read-only. Nothing here touches traffic, and nothing that a client of these servers does (slowly, or a thousand
//! times) can hurt the proxy or keep an honest probe waiting.

mod pages;
mod redact;
mod server;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime;
use tokio::sync::oneshot;

use pages::Site;
pub use redact::redact;

/// What the servers tell of. All methods are called on threads where blocking is allowed.
pub trait Report: Send + Sync + 'static {
    /// False: the process is beyond help and should be killed.
    fn live(&self) -> bool;
    /// Whether traffic should be sent here.
    ///
    /// # Errors
    /// Why not, in words.
    fn ready(&self) -> Result<(), String>;
    /// Prometheus text.
    fn metrics(&self) -> String;
    /// The whole state.
    fn status(&self) -> Value;
    /// The documents in force. Secrets are taken out here, by [`redact`], before anybody sees it.
    fn config(&self) -> Value;
}

/// The running servers. They stop when this is dropped.
#[derive(Debug)]
pub struct Admin {
    /// Where the admin server is bound.
    pub admin: Option<SocketAddr>,
    /// Where the health server is bound.
    pub health: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Binds the addresses, both optional, and starts to serve: all paths on `admin`, all but `/config` on `health`.
    ///
    /// # Errors
    /// An address cannot be bound (the message names it), or the thread cannot be started.
    pub fn start(
        admin: Option<SocketAddr>,
        health: Option<SocketAddr>,
        report: Arc<dyn Report>,
    ) -> io::Result<Admin> {
        let admin = admin.map(|address| bind("admin", address)).transpose()?;
        let health = health.map(|address| bind("health", address)).transpose()?;
        let addresses = (local(admin.as_ref())?, local(health.as_ref())?);
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(4)
            .thread_name("admin-report")
            .build()?;
        let sites = [(admin, Site::Admin), (health, Site::Health)];
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                for (listener, site) in sites {
                    if let Some(listener) = listener {
                        tokio::spawn(server::serve(listener, site, Arc::clone(&report)));
                    }
                }
                let _ = stopped.await;
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        })?;
        Ok(Admin {
            admin: addresses.0,
            health: addresses.1,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bind(name: &str, address: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound
        .map_err(|error| io::Error::new(error.kind(), format!("{name} address {address}: {error}")))
}

fn local(listener: Option<&TcpListener>) -> io::Result<Option<SocketAddr>> {
    listener.map(TcpListener::local_addr).transpose()
}
