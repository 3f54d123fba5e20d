//! The connections of one cluster on one worker. HTTP/1 connections wait in a list for each address and the last one
//! back is the first one out; HTTP/2 connections are shared up to the peer's limit. What is idle for too long is closed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::take;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use http::Version;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use portcullis_vm::ConnectionAttributes;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::Counters;
use super::dial::{Connection, Dialer, Http2, Refused};
use super::error::{SendError, Stage, classify};
use super::http1::Http1;
use super::request::Target;
use crate::body::Body;
use crate::http1::{Problem, Tunnel};
use crate::message::Response;
use crate::tls::Alpn;

/// How long the rest of a request may take to be written after its response has ended.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// What kind of connection a request needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// HTTP/2 will not do.
    pub(super) http1_only: bool,
    /// HTTP/1 will not do.
    pub(super) http2_only: bool,
    /// One that has not served yet.
    pub(super) fresh: bool,
}

#[derive(Debug)]
pub(super) struct Pool {
    idle_timeout: Duration,
    slots: RefCell<HashMap<SocketAddr, Slot, RandomState>>,
    reaping: Cell<bool>,
    counters: Rc<Counters>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The one that waits longest comes first.
    idle: Vec<Idle>,
    shared: Vec<Rc<Shared>>,
    gate: Rc<Gate>,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    /// How often it was seen idle by [`Pool::reap`]: cheaper than a clock read twice for each request.
    seen: u32,
}

#[derive(Debug)]
struct Shared {
    connection: Http2,
    active: Cell<usize>,
    served: Cell<bool>,
    idle_since: Cell<Instant>,
}

/// Lets one request open an HTTP/2 connection while the others wait for it, and tells them if it could not.
#[derive(Debug, Default)]
struct Gate {
    turn: Mutex<()>,
    failures: Cell<u64>,
    last: RefCell<Option<Refused>>,
}

/// A connection for the time of one request. Dropped, it is closed (HTTP/1) or left to the others (HTTP/2).
#[derive(Debug)]
pub(super) struct Lease {
    held: Held,
    reused: bool,
    pool: Weak<Pool>,
    _active: Active,
}

#[derive(Debug)]
enum Held {
    Alone(Http1),
    Shared(Seat),
}

/// One request on a shared connection.
#[derive(Debug)]
struct Seat(Rc<Shared>);

/// One request of the cluster.
#[derive(Debug)]
struct Active(Rc<Counters>);

impl Pool {
    pub(super) fn new(idle_timeout: Duration, counters: Rc<Counters>) -> Pool {
        Pool { idle_timeout, slots: RefCell::default(), reaping: Cell::new(false), counters }
    }

    /// Open connections that nobody uses.
    pub(super) fn idle(&self) -> u64 {
        let slots = self.slots.borrow();
        let idle = |slot: &Slot| {
            let alone = slot.idle.iter().filter(|idle| idle.connection.is_open());
            alone.count() + slot.shared.iter().filter(|shared| shared.is_idle()).count()
        };
        slots.values().map(idle).sum::<usize>() as u64
    }

    /// A connection, and how long it took to get it.
    pub(super) async fn acquire(
        self: &Rc<Self>,
        dialer: &Dialer,
        address: SocketAddr,
        wanted: Wanted,
    ) -> Result<(Lease, Duration), Refused> {
        if let Some(lease) = self.checkout(address, wanted) {
            return Ok((lease, Duration::ZERO));
        }
        // Rare and large: kept out of the state that each request carries.
        let asked = Instant::now();
        let lease = Box::pin(self.connect(dialer, address, wanted)).await?;
        Ok((lease, asked.elapsed()))
    }

    async fn connect(
        self: &Rc<Self>,
        dialer: &Dialer,
        address: SocketAddr,
        wanted: Wanted,
    ) -> Result<Lease, Refused> {
        if wanted.http1_only || !dialer.expects_http2() {
            return self.open(dialer, address, wanted).await;
        }
        let gate = self.slots.borrow_mut().entry(address).or_default().gate.clone();
        let seen = gate.failures.get();
        let _turn = gate.turn.lock().await;
        if let Some(lease) = self.checkout(address, Wanted { fresh: false, ..wanted }) {
            return Ok(lease);
        }
        if let Some(refused) = gate.last.borrow().as_ref().filter(|_| gate.failures.get() != seen) {
            return Err(refused.clone());
        }
        let opened = self.open(dialer, address, wanted).await;
        if let Err(refused) = &opened {
            gate.failures.set(gate.failures.get() + 1);
            *gate.last.borrow_mut() = Some(refused.clone());
        }
        opened
    }

    async fn open(
        self: &Rc<Self>,
        dialer: &Dialer,
        address: SocketAddr,
        wanted: Wanted,
    ) -> Result<Lease, Refused> {
        let alpn = if wanted.http1_only { Alpn::Http1 } else { Alpn::Any };
        match dialer.dial(address, alpn).await? {
            Connection::Http1(connection) => Ok(self.lease(Held::Alone(connection))),
            Connection::Http2(connection) => {
                let shared = Rc::new(Shared::new(connection));
                let lease = self.lease(Held::Shared(Seat::new(&shared)));
                self.slots.borrow_mut().entry(address).or_default().shared.push(shared);
                self.reap_later();
                Ok(lease)
            }
        }
    }

    fn checkout(self: &Rc<Self>, address: SocketAddr, wanted: Wanted) -> Option<Lease> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(&address)?;
        if !wanted.http1_only
            && let Some(shared) = slot.shared.iter().find(|shared| shared.has_room())
        {
            return Some(self.lease(Held::Shared(Seat::new(shared))));
        }
        if wanted.fresh {
            return None;
        }
        while let Some(idle) = slot.idle.pop() {
            if idle.connection.is_open() && idle.seen < self.most_seen() {
                return Some(self.lease(Held::Alone(idle.connection)));
            }
        }
        None
    }

    fn lease(self: &Rc<Self>, held: Held) -> Lease {
        let reused = match &held {
            Held::Alone(alone) => alone.served(),
            Held::Shared(seat) => seat.0.served.replace(true),
        };
        let (pool, active) = (Rc::downgrade(self), Active::new(&self.counters));
        Lease { held, reused, pool, _active: active }
    }

    fn take_back(self: &Rc<Self>, address: SocketAddr, mut connection: Http1) {
        connection.let_go();
        let idle = Idle { connection, seen: 0 };
        self.slots.borrow_mut().entry(address).or_default().idle.push(idle);
        self.reap_later();
    }

    /// One coarse timer for all, running only while there is something to watch.
    fn reap_later(self: &Rc<Self>) {
        if self.reaping.replace(true) {
            return;
        }
        let (pool, period) = (Rc::downgrade(self), self.period());
        tokio::task::spawn_local(async move {
            loop {
                sleep(period).await;
                match pool.upgrade() {
                    Some(pool) if pool.reap() => {}
                    _ => return,
                }
            }
        });
    }

    fn period(&self) -> Duration {
        (self.idle_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(5))
    }

    /// A connection that was seen idle so often has been so for nearly as long as it may.
    fn most_seen(&self) -> u32 {
        (self.idle_timeout.as_millis() / self.period().as_millis()).try_into().unwrap_or(u32::MAX)
    }

    /// Whether something is left to watch.
    fn reap(&self) -> bool {
        let mut slots = self.slots.borrow_mut();
        slots.retain(|_, slot| {
            slot.idle.retain_mut(|idle| {
                idle.seen += 1;
                idle.connection.is_open() && idle.seen < self.most_seen()
            });
            slot.shared.retain(|shared| shared.is_wanted(self.idle_timeout));
            // A gate that others hold must stay the only one of its address.
            !slot.idle.is_empty() || !slot.shared.is_empty() || Rc::strong_count(&slot.gate) > 1
        });
        self.reaping.set(!slots.is_empty());
        !slots.is_empty()
    }
}

impl Shared {
    fn new(connection: Http2) -> Shared {
        Shared {
            connection,
            active: Cell::new(0),
            served: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
        }
    }

    fn has_room(&self) -> bool {
        !self.connection.sender.is_closed() && self.active.get() < self.connection.limit()
    }

    fn is_idle(&self) -> bool {
        !self.connection.sender.is_closed() && self.active.get() == 0
    }

    fn is_wanted(&self, idle_timeout: Duration) -> bool {
        let idle = self.active.get() == 0 && self.idle_since.get().elapsed() >= idle_timeout;
        !self.connection.sender.is_closed() && !idle
    }
}

impl Seat {
    fn new(shared: &Rc<Shared>) -> Seat {
        shared.active.set(shared.active.get() + 1);
        Seat(shared.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
    }
}

impl Active {
    fn new(counters: &Rc<Counters>) -> Active {
        counters.active.set(counters.active.get() + 1);
        Active(counters.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
    }
}

impl Lease {
    pub(super) fn connection(&self) -> &Arc<ConnectionAttributes> {
        match &self.held {
            Held::Alone(alone) => alone.attributes(),
            Held::Shared(seat) => &seat.0.connection.attributes,
        }
    }

    /// Whether the connection had been given out before.
    pub(super) fn reused(&self) -> bool {
        self.reused
    }

    pub(super) fn version(&self) -> Version {
        match self.held {
            Held::Alone(_) => Version::HTTP_11,
            Held::Shared(_) => Version::HTTP_2,
        }
    }

    /// Sends a request, whose body is taken; the body of the answer is read from what comes with it (HTTP/2), or from here.
    ///
    /// # Errors
    /// No head of a response; at [`Stage::Request`] nothing was sent.
    pub(super) async fn send(
        &mut self,
        target: &Target<'_>,
        body: &mut Body,
    ) -> Result<Response<Option<Incoming>>, Box<SendError>> {
        let address = self.connection().peer;
        match &mut self.held {
            Held::Alone(alone) => {
                let head = alone.send(target, address, body).await?;
                Ok(Response { head, body: None })
            }
            Held::Shared(seat) => {
                let request = match target.http2(address) {
                    Ok(request) => request.map(|()| take(body)),
                    Err(reason) => {
                        return Err(SendError::before(Stage::Request, reason, take(body)));
                    }
                };
                let mut sender = seat.0.connection.sender.clone();
                // Large, and of no use to HTTP/1: kept out of the state that each request carries.
                let answered = Box::pin(sender.try_send_request(request)).await;
                let answered =
                    answered.map_err(|error| Box::new(classify(error, address, self.reused)));
                Ok(Response::from(answered?).map(Some))
            }
        }
    }

    /// The next part of an HTTP/1 answer's body.
    pub(super) fn poll_frame(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Problem>>> {
        match &self.held {
            Held::Alone(alone) => alone.poll_frame(context),
            Held::Shared(_) => Poll::Ready(None),
        }
    }

    /// Whether an HTTP/1 answer has come to its end.
    pub(super) fn is_answered(&self) -> bool {
        match &self.held {
            Held::Alone(alone) => alone.is_answered(),
            Held::Shared(_) => true,
        }
    }

    /// How long the rest of an HTTP/1 answer's body is.
    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.held {
            Held::Alone(alone) => alone.size_hint(),
            Held::Shared(_) => SizeHint::default(),
        }
    }

    /// What an HTTP/1 connection has become by a 101.
    pub(super) fn into_tunnel(self) -> Option<Tunnel> {
        match self.held {
            Held::Alone(alone) => alone.into_tunnel(),
            Held::Shared(_) => None,
        }
    }

    /// Gives the connection back: the response was read to its end, or nothing was sent.
    pub(super) fn release(self) {
        let Held::Alone(mut connection) = self.held else { return };
        let (pool, address) = (self.pool, connection.attributes().peer);
        let take_back = move |connection: Http1| {
            if let Some(pool) = pool.upgrade().filter(|_| connection.is_reusable()) {
                pool.take_back(address, connection);
            }
        };
        if connection.is_written() {
            return take_back(connection);
        }
        // The upstream has answered before it has read everything, and may never read the rest.
        tokio::task::spawn_local(async move {
            if timeout(GIVE_BACK, connection.written()).await.is_ok() {
                take_back(connection);
            }
        });
    }
}
