//! One request and its response: takes a client's request through the filters, the route and the upstream, and answers
//! exactly once. Whatever happens, the filters' log phase and the access log come at the end.

mod attempt;
mod body;
mod forwarded;
mod head;
mod record;
mod refused;
mod request;
mod response;
mod upgrade;
mod wait;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderValue;
use http::{Method, Version};
use portcullis_vm::{Attributes, ConnectionAttributes, Direction, HttpStream, Stream, StreamKey};
use tokio::sync::oneshot;

use crate::body::Body;
use crate::chain::{Chain, Lender, Local, Mailbox, Party, SlotId, Terminal};
use crate::clock::{Alarm, InFlight};
use crate::facts::Flags;
use crate::generation::Generation;
use crate::http1::Tunnel;
use crate::message::{Request, Response};
use crate::now;
use crate::reply::{Dialect, Failure};
use crate::snapshot::{ListenerDirection, ListenerIndex};

pub use body::Inlet;
pub use forwarded::name_of;

use body::Replay;
use record::Facts;
use refused::Asked;
use request::Ready;

/// The client's side of an exchange.
#[derive(Debug)]
pub struct Client<'a> {
    /// Who, and by which connection.
    pub connection: &'a Arc<ConnectionAttributes>,
    /// [`name_of`] the peer.
    pub name: &'a HeaderValue,
    /// The listener it came by.
    pub listener: ListenerIndex,
    /// The connection is about to end: say so in the response.
    pub closing: bool,
    /// Dropped at the end of the exchange.
    pub in_flight: InFlight,
    /// Of those that are answered one after the other.
    pub alarm: Rc<RefCell<Alarm>>,
    /// Counts the connection; a tunnel goes on holding it.
    pub guest: Rc<dyn Any>,
}

/// The exchange cannot be answered: the connection (HTTP/1) or the stream (HTTP/2) is reset.
#[derive(Debug, thiserror::Error)]
#[error("the exchange was reset")]
pub struct Reset;

/// Gets the client's connection once a 101 has left by it.
pub type Switch = oneshot::Receiver<Tunnel>;

/// What the parts of one exchange share: whoever works towards the response, the body on its way up, and the body on
/// its way down.
struct Exchange {
    generation: Rc<Generation>,
    local: Rc<Local>,
    key: StreamKey,
    mailbox: Rc<Mailbox>,
    chain: RefCell<Chain>,
    /// The client's body, until it has been read to its end.
    request_body: RefCell<Inlet>,
    /// The upstream's body, or ours.
    response_body: RefCell<Inlet>,
    replay: RefCell<Replay>,
    facts: RefCell<Facts>,
    listener: ListenerIndex,
    dialect: Dialect,
    method: Method,
    version: Version,
    closing: bool,
    started: Instant,
    ended: Cell<bool>,
    /// A body that broke off.
    broken: Cell<Option<Direction>>,
    /// When `timeouts.backendRequest` of the last attempt is over.
    attempt_deadline: Cell<Option<Instant>>,
    /// When the request that was answered left for the upstream, until the answer is complete.
    upstream_sent: Cell<Option<Instant>>,
    in_flight: Cell<Option<InFlight>>,
    alarm: Rc<RefCell<Alarm>>,
    guest: Rc<dyn Any>,
    /// What the request's head says to us.
    hop: head::Hop,
    /// Gets the client's connection after a 101.
    switch: Cell<Option<Switch>>,
    /// The protocol that a 101 of the upstream switches to.
    switching: Cell<Option<Box<HeaderValue>>>,
    /// The client gets trailers: by HTTP/2, or because the head announces them.
    carries_trailers: Cell<bool>,
}

/// Ends the exchange when dropped: by whoever holds it last on the way to the client.
struct Ending(Rc<Exchange>);

impl Drop for Ending {
    fn drop(&mut self) {
        drop(self.0.end());
    }
}

/// An exchange that waits to be answered. Dropped, it ends: the client has gone.
pub struct Begun {
    ending: Ending,
}

impl Begun {
    /// Answers the request.
    ///
    /// # Errors
    /// A filter reset the exchange, or the response cannot be expressed.
    pub async fn answer(self) -> Result<Response<Body>, Reset> {
        let exchange = self.ending.0.clone();
        let deadline = match exchange.response().await {
            Ok(deadline) => deadline,
            Err(Interruption::Terminal(Terminal::Close(_))) => {
                exchange.facts.borrow_mut().flags.insert(Flags::LOCAL_RESET);
                return Err(Reset);
            }
            Err(interruption) => {
                exchange.take_response(exchange.answer(interruption).map(Inlet::Own))
            }
        };
        exchange.response_phase(deadline, self.ending).await
    }
}

/// Begins the exchange of one request. Apart from [`Begun::answer`], whose state each request carries, so that nothing
/// of this is in it.
///
/// # Errors
/// The answer to a request that is refused.
pub fn begin(
    generation: Rc<Generation>,
    client: Client<'_>,
    mut request: Request,
    body: Inlet,
    switch: Option<Switch>,
) -> Result<Begun, Box<Response<Body>>> {
    let version = request.version;
    let head = Arc::make_mut(&mut request.head);
    let accepted = head::accept(head, version, body.fault(), client.connection.tls.is_some());
    let hop = match accepted {
        Ok(hop) => hop,
        Err(failure) => {
            return Err(Box::new(Asked::of(&request).refuse(&generation, &client, &failure)));
        }
    };
    // Others may have been answered since the task was polled.
    now::moved_on();
    let started = now::now();
    let method = head.method.clone();
    let dialect = Dialect::of(&head.headers);
    let listener = &generation.snapshot.listeners[client.listener];
    let scheme = if client.connection.tls.is_some() { "https" } else { "http" };
    let facts = Facts::of(head, &generation, client.listener);
    let address = forwarded::stamp(
        &mut head.headers,
        client.connection.peer,
        client.name,
        scheme,
        listener.trusted_hops,
    );
    let direction = match listener.direction {
        ListenerDirection::Outbound => 2,
        ListenerDirection::Inbound | ListenerDirection::Gateway => 1,
    };
    // Both this and the exchange are made where they stay: they are large.
    let room = Box::new_uninit();
    let attributes = Attributes::new(client.connection.clone(), now::wall(started));
    let mut stream = Box::write(room, HttpStream::new(request.head, attributes));
    stream.attributes.client = address;
    stream.attributes.listener_direction = direction;
    stream.attributes.protocol = protocol(version);
    stream.attributes.listener = Some(generation.listener_name(client.listener));
    let local = generation.local.clone();
    let (key, mailbox) = local.insert(stream);
    let exchange = Rc::new_cyclic(|exchange: &Weak<Exchange>| {
        let lender: Weak<dyn Lender> = Weak::<Exchange>::clone(exchange);
        mailbox.set_lender(lender);
        let slots = generation.chain(client.listener);
        Exchange {
            chain: RefCell::new(Chain::new(slots, local.clone(), key, mailbox.clone())),
            local,
            key,
            mailbox,
            request_body: RefCell::new(body),
            response_body: RefCell::default(),
            replay: RefCell::default(),
            facts: RefCell::new(facts),
            listener: client.listener,
            dialect,
            method,
            version,
            closing: client.closing,
            started,
            ended: Cell::new(false),
            broken: Cell::new(None),
            attempt_deadline: Cell::new(None),
            upstream_sent: Cell::new(None),
            in_flight: Cell::new(Some(client.in_flight)),
            alarm: client.alarm,
            guest: client.guest,
            hop,
            switch: Cell::new(switch),
            switching: Cell::new(None),
            carries_trailers: Cell::new(version == Version::HTTP_2),
            generation,
        }
    });
    Ok(Begun { ending: Ending(exchange) })
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// HTTP/2 knows no connection fields (RFC 9113, 8.2.2).
fn without_connection_fields(mut response: Response<Body>, version: Version) -> Response<Body> {
    if version == Version::HTTP_2 {
        head::strip_hop_by_hop(&mut response.head.headers);
    }
    response
}

/// What stands in the way of a response from the upstream.
enum Interruption {
    /// The filters.
    Terminal(Terminal),
    /// We do.
    Failure(Failure),
}

impl Lender for Exchange {
    fn swap_held(&self, slot: SlotId) {
        // Nobody works on the chain while a root context is called.
        if let Ok(mut chain) = self.chain.try_borrow_mut() {
            chain.swap_held(slot);
        }
    }
}

impl Exchange {
    /// [Takes](Self::take_response) the upstream's response, or one that the route gives; until when its head has to have
    /// passed the filters.
    async fn response(self: &Rc<Self>) -> Result<Option<Instant>, Interruption> {
        let ready = {
            let phase = pin!(self.request_phase(self.provisional()));
            self.in_time(self.request_deadline(), phase).await?
        };
        match &ready {
            Ready::Answered => Ok(None),
            Ready::Upstream(selected, end) => {
                let phase = pin!(self.upstream_phase(selected, *end));
                self.in_time(self.request_deadline(), phase).await
            }
        }
    }

    /// The end, once: guests log, the contexts go, the access log gets its line. What is left of the exchange.
    fn end(&self) -> Option<Box<HttpStream>> {
        if self.ended.replace(true) {
            return None;
        }
        *self.request_body.borrow_mut() = Inlet::Ended;
        *self.response_body.borrow_mut() = Inlet::Ended;
        let now = now::now();
        let duration = now.saturating_duration_since(self.started);
        self.seal_attributes(duration);
        self.chain.borrow_mut().finish();
        self.record(duration);
        let stream = self.local.remove(self.key);
        // An upstream that answered early may still wait for the rest of the request; the other parties are this one.
        self.mailbox.wake_one(Party::Request);
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.end(now);
        }
        match stream {
            Some(Stream::Http(stream)) => Some(stream),
            _ => None,
        }
    }
}
