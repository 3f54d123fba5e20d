//! One client connection: handshake, protocol, requests one after the other or side by side, and its end. Keeps slow,
//! idle and broken clients within limits; knows nothing of routes and filters. Connections without HTTP are handed on.

mod bytes;
mod http1;
mod http2;
mod attend;
mod io;
mod quiet;

use std::cell::RefCell;
use std::fmt::Display;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use portcullis_vm::{ConnectionAttributes, TlsAttributes};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch as channel;
use tokio::task::spawn_local;
use tokio::time::sleep;

use self::http1::REQUEST_TIMEOUT;
use self::io::{Detected, detect};
use crate::body::Body;
use crate::clock::{Alarm, InFlight, Watch};
use crate::exchange::{self, Begun, Client, Inlet, Reset, Switch};
use crate::facts::next_connection_id;
use crate::generation::Generation;
use crate::message::{Request, Response};
use crate::observe::families::{
    CONNECTIONS, CONNECTIONS_ACTIVE, CONNECTIONS_REFUSED, HANDSHAKES_FAILED, PROTOCOL_ERRORS,
};
use crate::observe::{Counter, Gauge, Registry};
use crate::snapshot::{Limits, ListenerProtocol};
use crate::tls;
use crate::wire::Wire;

/// How a listener stands to its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Everybody is welcome.
    #[default]
    Open,
    /// Still serving, but each response says that the connection ends.
    Leaving,
    /// Connections end as soon as nothing is in flight.
    Closing,
}

/// The connections of one listener on one worker.
#[derive(Debug)]
pub struct Reception {
    name: String,
    generation: Rc<RefCell<Rc<Generation>>>,
    stage: channel::Receiver<Stage>,
    open: Arc<AtomicUsize>,
    registry: Arc<Registry>,
    accepted: Counter,
    active: Gauge,
    refused: Counter,
    handshakes_failed: Counter,
}

/// After a listener has closed, a client that has just connected gets so long to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Counts a connection for as long as it, or the tunnel that it has become, lives. Drains wait for it.
#[derive(Debug)]
struct Guest {
    open: Arc<AtomicUsize>,
    active: Gauge,
    _stage: channel::Receiver<Stage>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.active.add(-1);
    }
}

/// A client connection after its handshake.
#[derive(Debug)]
struct Accepted {
    wire: Wire,
    /// What was read already.
    read: Vec<u8>,
    attributes: Arc<ConnectionAttributes>,
    /// Those of the time it came.
    limits: Limits,
    guest: Rc<Guest>,
}

/// What the exchanges of one connection have in common.
#[derive(Debug)]
struct Exchanges {
    reception: Rc<Reception>,
    attributes: Arc<ConnectionAttributes>,
    name: HeaderValue,
    watch: Arc<Watch>,
    guest: Rc<Guest>,
}

impl Exchanges {
    /// Begins one, or says what a request that is refused is answered.
    fn begin(
        &self,
        request: Request,
        body: Inlet,
        switch: Option<Switch>,
        alarm: &Rc<RefCell<Alarm>>,
    ) -> Result<Result<Begun, Box<Response<Body>>>, Reset> {
        let generation = self.reception.generation.borrow().clone();
        let client = Client {
            connection: &self.attributes,
            name: &self.name,
            listener: generation.listener(&self.reception.name).ok_or(Reset)?,
            closing: *self.reception.stage.borrow() >= Stage::Leaving,
            in_flight: InFlight::begin(&self.watch),
            alarm: alarm.clone(),
            guest: self.guest.clone(),
        };
        Ok(exchange::begin(generation, client, request, body, switch))
    }
}

impl Reception {
    /// For the listener of this name; `open` counts the connections of the whole process.
    pub fn new(
        name: &str,
        generation: Rc<RefCell<Rc<Generation>>>,
        stage: channel::Receiver<Stage>,
        open: Arc<AtomicUsize>,
        registry: Arc<Registry>,
    ) -> Rc<Reception> {
        Rc::new(Reception {
            accepted: registry.series(&CONNECTIONS, [name]),
            active: registry.series(&CONNECTIONS_ACTIVE, [name]),
            refused: registry.series(&CONNECTIONS_REFUSED, [name]),
            handshakes_failed: registry.series(&HANDSHAKES_FAILED, [name]),
            name: name.to_owned(),
            generation,
            stage,
            open,
            registry,
        })
    }

    /// Takes a connection that was accepted, or closes it if there are too many.
    pub fn receive(self: &Rc<Self>, stream: TcpStream) {
        self.accepted.increment();
        let most = self.generation.borrow().snapshot.limits.connections;
        if self.open.fetch_add(1, Ordering::Relaxed) >= most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.refused.increment();
            return;
        }
        self.active.add(1);
        let _stage = self.stage.clone();
        let guest = Guest { open: self.open.clone(), active: self.active.clone(), _stage };
        let reception = self.clone();
        spawn_local(async move {
            if let Err(error) = reception.serve(stream, Rc::new(guest)).await {
                tracing::debug!(listener = %reception.name, "connection ended: {error}");
            }
        });
    }

    async fn serve(self: &Rc<Self>, stream: TcpStream, guest: Rc<Guest>) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        let attributes = |tls: Option<TlsAttributes>| {
            Arc::new(ConnectionAttributes {
                id: next_connection_id(),
                peer,
                local,
                tls: tls.map(Box::new),
            })
        };
        // A connection pins no generation: each of its exchanges does.
        let generation = self.generation.borrow().clone();
        let Some(listener) = generation.listener(&self.name) else { return Ok(()) };
        let limits = generation.snapshot.limits.clone();
        let configured = generation.snapshot.listeners[listener].clone();
        drop(generation);
        if configured.protocol != ListenerProtocol::Http {
            return Box::pin(self.bytes(stream, &configured, &limits)).await;
        }
        if let Some(server_tls) = &configured.tls {
            let accepted =
                Box::pin(tls::accept(server_tls, stream, limits.request_header_timeout)).await;
            let accepted = accepted.inspect_err(|_| self.handshakes_failed.increment())?;
            let http2 = accepted.http2;
            let attributes = attributes(Some(accepted.attributes));
            let wire = Wire::Tls(Box::new(accepted.stream));
            let accepted = Accepted { wire, read: Vec::new(), attributes, limits, guest };
            match http2 {
                true => Box::pin(self.http2(accepted)).await,
                false => self.http1(accepted).await,
            }
            return Ok(());
        }
        let (head, idle) = (limits.request_header_timeout, limits.idle_timeout);
        let attributes = attributes(None);
        match detect(stream, head, idle, self.closed()).await? {
            Detected::Http1(stream, read) => {
                let wire = Wire::Plain(stream);
                self.http1(Accepted { wire, read, attributes, limits, guest }).await;
            }
            Detected::Http2(stream, read) => {
                let wire = Wire::Plain(stream);
                Box::pin(self.http2(Accepted { wire, read, attributes, limits, guest })).await;
            }
            Detected::TooSlow(mut stream) => {
                self.count_error("408");
                stream.write_all(REQUEST_TIMEOUT).await?;
                stream.shutdown().await?;
            }
            Detected::Nothing => {}
        }
        Ok(())
    }

    fn exchanges(
        self: &Rc<Self>,
        attributes: Arc<ConnectionAttributes>,
        watch: &Arc<Watch>,
        guest: Rc<Guest>,
    ) -> Exchanges {
        let name = exchange::name_of(attributes.peer.ip());
        Exchanges { reception: self.clone(), attributes, name, watch: watch.clone(), guest }
    }

    /// The listener has closed, so long ago that whoever has not begun a request will not get one served.
    async fn closed(&self) {
        let mut stage = self.stage.clone();
        drop(stage.wait_for(|stage| *stage >= Stage::Closing).await);
        sleep(FIRST_REQUEST).await;
    }

    /// Counts and logs why a connection has ended before its time.
    fn note_error(&self, kind: &str, error: &dyn Display) {
        self.count_error(kind);
        tracing::debug!(listener = %self.name, kind, "connection error: {error}");
    }

    fn count_error(&self, kind: &str) {
        self.registry.series(&PROTOCOL_ERRORS, [&self.name, kind]).increment();
    }
}

/// Runs hyper's tasks on the worker they belong to.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        drop(spawn_local(async move {
            future.await;
        }));
    }
}
