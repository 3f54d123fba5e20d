//! One TCP connection of a client: takes its bytes through the network filters to an upstream, and the upstream's back.
//! Whatever happens, the filters' last phase and the access log come at the end.
//!
//! With filters, the connection pins its generation for life: its guests' contexts live in that generation's instances.
//! Without, it lets go as soon as the upstream is there.

mod record;
mod relay;
mod side;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_vm::{ConnectionAttributes, Direction, Peer, StreamKey, TcpStream};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::chain::{Chain, Lender, Local, Mailbox, SlotId};
use crate::generation::Generation;
use crate::route::{Pick, pick_of};
use crate::snapshot::{ListenerIndex, TcpRoute};
use crate::upstream::Cluster;

use record::Facts;
use relay::{End, Relay};

/// Under which a filter stores the name of the backend to take instead of the route's, as for Envoy's TCP proxy.
const CLUSTER_STATE: &[u8] = b"envoy.tcp_proxy.cluster";

/// The client's side of a connection.
#[derive(Debug)]
pub struct Client {
    /// Who.
    pub connection: Arc<ConnectionAttributes>,
    /// The listener it came by.
    pub listener: ListenerIndex,
    /// What was read of it already.
    pub first: Vec<u8>,
}

/// What the filters' callbacks and the relay share.
struct Session {
    local: Rc<Local>,
    key: StreamKey,
    mailbox: Rc<Mailbox>,
    chain: RefCell<Chain>,
    facts: RefCell<Facts>,
    pinned: RefCell<Option<Pinned>>,
    /// Where the route sends it.
    cluster: Option<Rc<Cluster>>,
    /// Whether the filters have been told that the upstream has closed; `None` before there is one.
    upstream_closed: Cell<Option<bool>>,
    closed_by: Cell<Peer>,
    idle_timeout: Duration,
}

/// A generation that is counted as in use.
struct Pinned(Rc<Generation>);

impl Pinned {
    fn new(generation: Rc<Generation>) -> Pinned {
        generation.tally.exchanges.fetch_add(1, Ordering::Relaxed);
        Pinned(generation)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.0.tally.exchanges.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends the session when dropped.
struct Ending(Rc<Session>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Serves one connection to its end. Dropping the future closes both sides.
pub async fn serve<T>(generation: Rc<Generation>, client: Client, stream: T)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let Client { connection, listener, first } = client;
    let server_name = connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
    let route = generation.tcp_routes(listener).select(server_name).cloned();
    let cluster = route.as_deref().and_then(|route| cluster_of(&generation, route));
    let attributes = record::attributes(&generation, connection, listener, route.as_deref());
    let facts = Facts::new(&generation, listener, route.as_deref(), cluster.as_deref());
    let local = generation.local.clone();
    let (key, mailbox) = local.insert(Box::new(TcpStream::new(attributes)));
    // Who has no route is seen by nobody.
    let slots = route.as_ref().map(|_| generation.chain(listener)).unwrap_or_default();
    let session = Rc::new(Session {
        chain: RefCell::new(Chain::tcp(slots, local.clone(), key, mailbox.clone())),
        local,
        key,
        mailbox,
        facts: RefCell::new(facts),
        cluster,
        upstream_closed: Cell::new(None),
        closed_by: Cell::new(Peer::Local),
        idle_timeout: generation.snapshot.limits.idle_timeout,
        pinned: RefCell::new(Some(Pinned::new(generation))),
    });
    let lender: Weak<dyn Lender> = Rc::<Session>::downgrade(&session);
    session.mailbox.set_lender(lender);
    let _ending = Ending(session.clone());
    if route.is_none() {
        return session.note(&End::NoRoute);
    }
    Relay::new(session, stream, first).run().await;
}

/// Where a route sends the next connection.
fn cluster_of(generation: &Generation, route: &TcpRoute) -> Option<Rc<Cluster>> {
    match pick_of(&route.backends, fastrand::u64(..)) {
        Pick::Backend(index, _) => generation.clusters.get(index).cloned(),
        Pick::Invalid(_) | Pick::Nothing => None,
    }
}

impl Lender for Session {
    fn swap_held(&self, slot: SlotId) {
        // Nobody works on the chain while a root context is called.
        if let Ok(mut chain) = self.chain.try_borrow_mut() {
            chain.swap_held(slot);
        }
    }
}

impl Session {
    /// Where to connect: the backend that a filter has named, else the route's.
    fn choose(&self) -> Option<Rc<Cluster>> {
        let named = self.local.with_tcp(self.key, |tcp| {
            let state = tcp.filter_state.get(CLUSTER_STATE)?;
            Some(String::from_utf8_lossy(state.value()).into_owned())
        });
        let cluster = match (named.flatten(), &*self.pinned.borrow()) {
            (Some(name), Some(Pinned(generation))) => generation.cluster(&name),
            _ => self.cluster.clone(),
        };
        self.note_cluster(cluster.as_deref());
        cluster
    }

    /// The upstream is there.
    fn connected(&self, upstream: &Arc<ConnectionAttributes>) {
        self.upstream_closed.set(Some(false));
        self.note_upstream(upstream);
        let mut chain = self.chain.borrow_mut();
        chain.feed_head(Direction::Response, false);
        if chain.is_empty() {
            self.pinned.take();
        }
    }

    /// Tells the filters, once, that the upstream has closed.
    fn upstream_closed(&self, by: Peer) {
        if self.upstream_closed.get() == Some(false) {
            self.upstream_closed.set(Some(true));
            self.chain.borrow_mut().closed(Direction::Response, by);
        }
    }

    /// The end, once: filters hear of it and log, their contexts go, the access log gets its line.
    fn end(&self) {
        self.seal();
        self.chain.borrow_mut().closed(Direction::Request, self.closed_by.get());
        self.upstream_closed(Peer::Local);
        self.chain.borrow_mut().finish();
        self.record();
        self.local.remove(self.key);
        self.pinned.take();
    }
}
