//! One request and its response: takes a client's request through the filters, the route and the upstream, and answers
//! exactly once. Whatever happens, the filters' log phase and the access log come at the end.

mod attempt;
mod body;
mod forwarded;
mod head;
mod record;
mod upgrade;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRAILER};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use portcullis_vm::{
    Attributes, ConnectionAttributes, Direction, HttpStream, RequestHead, ResponseHead, StreamKey,
};
use tokio::time::timeout_at;

use crate::body::Body;
use crate::chain::{Chain, Local, Mailbox, Party, Passed, Terminal};
use crate::clock::InFlight;
use crate::facts::Flags;
use crate::generation::Generation;
use crate::reply::{self, Dialect, Failure};
use crate::route::{self, Selected};
use crate::snapshot::{ListenerDirection, ListenerIndex, RouteFilter};

use body::{Inlet, Replay, ResponseStream};
use record::Facts;

/// The client's side of an exchange.
#[derive(Debug)]
pub struct Client {
    /// Who, and by which connection.
    pub connection: Arc<ConnectionAttributes>,
    /// The listener it came by.
    pub listener: ListenerIndex,
    /// The connection is about to end: say so in the response.
    pub closing: bool,
    /// Dropped at the end of the exchange.
    pub in_flight: InFlight,
}

/// The exchange cannot be answered: the connection (HTTP/1) or the stream (HTTP/2) is reset.
#[derive(Debug, thiserror::Error)]
#[error("the exchange was reset")]
pub struct Reset;

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
    in_flight: Cell<Option<InFlight>>,
    /// The client gets trailers: by HTTP/2, or because the head announces them.
    carries_trailers: Cell<bool>,
}

/// Ends the exchange when dropped: by whoever holds it last on the way to the client.
struct Ending(Rc<Exchange>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Answers one request.
///
/// Dropping the future ends the exchange: the client has gone.
///
/// # Errors
/// A filter reset the exchange, or the response cannot be expressed.
pub async fn serve(
    generation: Rc<Generation>,
    client: Client,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Reset> {
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (parts, incoming) = request.into_parts();
    let (version, method) = (parts.version, parts.method.clone());
    let dialect = Dialect::of(&parts.headers);
    let (mut head, hop) = match head::accept(parts, client.connection.tls.is_some()) {
        Ok(accepted) => accepted,
        Err(failure) => {
            generation.meters.refused(client.listener, failure.status().as_str());
            tracing::debug!(peer = %client.connection.peer, "request refused: {}", failure.reason());
            let mut response = reply::respond(&failure, dialect);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return Ok(without_connection_fields(response, version));
        }
    };
    let listener = &generation.snapshot.listeners[client.listener];
    let scheme = if client.connection.tls.is_some() { "https" } else { "http" };
    let facts = Facts::of(&head, &generation, client.listener);
    let address =
        forwarded::stamp(&mut head.headers, client.connection.peer, scheme, listener.trusted_hops);
    let direction = match listener.direction {
        ListenerDirection::Outbound => 2,
        ListenerDirection::Inbound | ListenerDirection::Gateway => 1,
    };
    let attributes = Attributes {
        connection: client.connection.clone(),
        client: address,
        listener_direction: direction,
        protocol: protocol(version),
        started: SystemTime::now(),
        duration: None,
        request_bytes: 0,
        response_bytes: 0,
        code_details: None,
        response_flags: 0,
        route_name: None,
        cluster_name: None,
        upstream: None,
        attempts: 0,
        upstream_failure: None,
    };
    let local = generation.local.clone();
    let (key, mailbox) = local.insert(HttpStream::new(head, attributes));
    let chain = Chain::new(generation.chain(client.listener), local.clone(), key, mailbox.clone());
    let exchange = Rc::new(Exchange {
        local,
        key,
        mailbox,
        chain: RefCell::new(chain),
        request_body: RefCell::new(Inlet::Client(incoming)),
        response_body: RefCell::default(),
        replay: RefCell::default(),
        facts: RefCell::new(facts),
        listener: client.listener,
        dialect,
        method,
        version,
        closing: client.closing,
        started: Instant::now(),
        ended: Cell::new(false),
        broken: Cell::new(None),
        attempt_deadline: Cell::new(None),
        in_flight: Cell::new(Some(client.in_flight)),
        carries_trailers: Cell::new(version == Version::HTTP_2),
        generation,
    });
    let ending = Ending(exchange.clone());
    exchange.run(ending, hop, on_upgrade).await
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
        head::strip_hop_by_hop(response.headers_mut());
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

impl Exchange {
    async fn run(
        self: &Rc<Self>,
        ending: Ending,
        hop: head::Hop,
        on_upgrade: OnUpgrade,
    ) -> Result<Response<Body>, Reset> {
        let mut interruption = match self.request_phase().await {
            Ok(Ready::Upstream(selected, end)) => {
                match self.upstream_phase_in_time(&selected, end, &hop, on_upgrade).await {
                    Ok(response) => return self.response_phase(response, ending, &hop).await,
                    Err(interruption) => interruption,
                }
            }
            Ok(Ready::Own(response)) => return self.response_phase(response, ending, &hop).await,
            Err(interruption) => interruption,
        };
        if let Interruption::Terminal(Terminal::Close(_)) = interruption {
            self.facts.borrow_mut().flags.insert(Flags::LOCAL_RESET);
            return Err(Reset);
        }
        let response = self.answer(&mut interruption).map(Inlet::Own);
        self.response_phase(response, ending, &hop).await
    }

    /// The filters of the listener, the route, the filters of the route.
    async fn request_phase(self: &Rc<Self>) -> Result<Ready, Interruption> {
        let bodyless = self.request_body.borrow().is_end();
        if !self.chain.borrow().is_empty() {
            self.note_route(self.select().as_ref());
        }
        self.chain.borrow_mut().feed_head(Direction::Request, bodyless);
        self.wait_head(Direction::Request).await?;
        let Some(selected) = self.select() else {
            return Err(Interruption::Failure(Failure::NoRoute));
        };
        self.note_route(Some(&selected));
        if let Some(reason) = &selected.rule.broken {
            return Err(Interruption::Failure(Failure::BrokenRule(reason.clone())));
        }
        let wasm = |filter: &RouteFilter| match filter {
            RouteFilter::Wasm(index) => Some(self.generation.slot(*index).clone()),
            _ => None,
        };
        let slots: Vec<_> = selected.rule.filters.iter().filter_map(wasm).collect();
        if !slots.is_empty() {
            self.chain.borrow_mut().extend(&slots);
        }
        let end = self.take_head(Direction::Request).await?;
        let redirect = selected.rule.filters.iter().find_map(|filter| match filter {
            RouteFilter::Redirect(redirect) => Some(redirect),
            _ => None,
        });
        match redirect {
            Some(redirect) => {
                let port = self.generation.snapshot.listeners[self.listener].address.port();
                let location = self
                    .with_request(|head| route::location(redirect, head, &selected.prefix, port));
                self.facts.borrow_mut().details = "direct_response".into();
                let response = reply::redirect(redirect.status, &location.unwrap_or_default());
                Ok(Ready::Own(response.map(Inlet::Own)))
            }
            None => Ok(Ready::Upstream(selected, end)),
        }
    }

    /// Sends the response through the filters and to the client.
    async fn response_phase(
        self: &Rc<Self>,
        response: Response<Inlet>,
        ending: Ending,
        hop: &head::Hop,
    ) -> Result<Response<Body>, Reset> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(self.finished(response.map(|_| Body::Empty), ending));
        }
        let (mut parts, body) = response.into_parts();
        head::strip_hop_by_hop(&mut parts.headers);
        let end = body.is_end() || self.has_no_body(parts.status);
        *self.response_body.borrow_mut() = if end { Inlet::Ended } else { body };
        self.local.with(self.key, |stream| {
            stream.response = Some(ResponseHead { status: parts.status, headers: parts.headers });
        });
        self.chain.borrow_mut().feed_head(Direction::Response, end);
        match self.take_head(Direction::Response).await {
            Ok(end) => Ok(self.forward_response(end, ending, hop)),
            Err(interruption) => self.replace(interruption, ending),
        }
    }

    /// A filter ends the exchange while the response passes the filters: its answer goes out past them.
    fn replace(
        &self,
        mut interruption: Interruption,
        ending: Ending,
    ) -> Result<Response<Body>, Reset> {
        if let Interruption::Terminal(Terminal::Close(_)) = interruption {
            self.facts.borrow_mut().flags.insert(Flags::LOCAL_RESET);
            return Err(Reset);
        }
        *self.response_body.borrow_mut() = Inlet::Ended;
        let response = self.answer(&mut interruption);
        Ok(self.finished(response, ending))
    }

    /// The answer of ours for what stands in the way.
    fn answer(&self, interruption: &mut Interruption) -> Response<Body> {
        if let Interruption::Terminal(terminal) = interruption {
            tracing::debug!(filter = %terminal.filter(), "a filter ends the exchange");
        }
        let failure = match interruption {
            Interruption::Failure(failure) => failure.clone(),
            Interruption::Terminal(Terminal::TooLarge(_, Direction::Request)) => {
                Failure::RequestTooLarge
            }
            Interruption::Terminal(Terminal::TooLarge(_, Direction::Response)) => {
                Failure::ResponseTooLarge
            }
            Interruption::Terminal(Terminal::Reply(_, guest)) => {
                let mut facts = self.facts.borrow_mut();
                facts.details = match guest.details.is_empty() {
                    true => "via_filter".into(),
                    false => std::mem::take(&mut guest.details).into(),
                };
                let headers = std::mem::take(&mut guest.headers);
                let body = std::mem::take(&mut guest.body);
                let guest = portcullis_vm::LocalReply {
                    status: guest.status,
                    details: String::new(),
                    headers,
                    body,
                    grpc_status: guest.grpc_status,
                };
                return reply::local(guest, self.dialect);
            }
            Interruption::Terminal(Terminal::Failed(_) | Terminal::Close(_)) => Failure::Filter,
        };
        tracing::debug!(code = failure.code(), "{}", failure.reason());
        self.facts.borrow_mut().failed(&failure);
        reply::respond(&failure, self.dialect)
    }

    /// Waits until the head has passed all filters. The body is read meanwhile only as far as filters ask for it.
    async fn wait_head(&self, direction: Direction) -> Result<(), Interruption> {
        poll_fn(|context| {
            self.poll_until(direction, context, |chain| {
                matches!(chain.passed(direction), Some(Passed::Headers { .. }))
            })
        })
        .await
    }

    /// Takes the head once it may go: one that declares a length waits for the first piece of a body that a filter sees,
    /// since the filter may change it.
    async fn take_head(&self, direction: Direction) -> Result<bool, Interruption> {
        let declared = self.declared_length(direction);
        let waits = declared && self.chain.borrow().sees_body(direction);
        poll_fn(|context| {
            self.poll_until(direction, context, |chain| match chain.passed(direction) {
                Some(Passed::Headers { end }) => *end || !waits || chain.has_body(direction),
                _ => false,
            })
        })
        .await?;
        let mut chain = self.chain.borrow_mut();
        if declared && !self.is_head_only(direction) {
            self.correct_length(&chain, direction);
        }
        match chain.take_passed(direction) {
            Some(Passed::Headers { end }) => Ok(end),
            _ => Ok(true),
        }
    }

    fn poll_until(
        &self,
        direction: Direction,
        context: &mut Context<'_>,
        done: impl Fn(&Chain) -> bool,
    ) -> Poll<Result<(), Interruption>> {
        self.mailbox.wait(Party::Head, context);
        loop {
            let mut chain = self.chain.borrow_mut();
            chain.pump();
            if let Some(terminal) = chain.take_terminal() {
                return Poll::Ready(Err(Interruption::Terminal(terminal)));
            }
            if let Some(direction) = self.broken.get() {
                return Poll::Ready(Err(attempt::broken_off(direction)));
            }
            if done(&chain) {
                return Poll::Ready(Ok(()));
            }
            if !chain.wants_input(direction) {
                return Poll::Pending;
            }
            drop(chain);
            std::task::ready!(self.poll_feed(direction, context));
        }
    }

    fn declared_length(&self, direction: Direction) -> bool {
        let has = |stream: &mut HttpStream| match direction {
            Direction::Request => stream.request.headers.contains_key(CONTENT_LENGTH),
            Direction::Response => stream
                .response
                .as_ref()
                .is_some_and(|head| head.headers.contains_key(CONTENT_LENGTH)),
        };
        self.local.with(self.key, has).unwrap_or(false)
    }

    /// Puts `content-length` right where filters have changed the length, or takes it away where it is not known yet.
    fn correct_length(&self, chain: &Chain, direction: Direction) {
        let length = match (chain.whole_length(direction), chain.length_changed(direction)) {
            (Some(length), _) => Some(HeaderValue::from(length)),
            (None, true) => None,
            (None, false) => return,
        };
        self.local.with(self.key, |stream| {
            let headers = match direction {
                Direction::Request => &mut stream.request.headers,
                Direction::Response => match &mut stream.response {
                    Some(head) => &mut head.headers,
                    None => return,
                },
            };
            headers.remove(CONTENT_LENGTH);
            if let Some(length) = length {
                drop(headers.try_insert(CONTENT_LENGTH, length));
            }
        });
    }

    /// Whether the length in the head is not that of a body which follows.
    fn is_head_only(&self, direction: Direction) -> bool {
        let status =
            || self.local.with(self.key, |stream| stream.response.as_ref().map(|head| head.status));
        direction == Direction::Response && self.has_no_body(status().flatten().unwrap_or_default())
    }

    fn has_no_body(&self, status: StatusCode) -> bool {
        self.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    fn select(&self) -> Option<Selected> {
        self.with_request(|head| self.generation.routes(self.listener).select(head)).flatten()
    }

    fn note_route(&self, selected: Option<&Selected>) {
        let name = selected.map(|selected| selected.route.name.clone());
        self.local.with(self.key, |stream| stream.attributes.route_name = name);
        self.facts.borrow_mut().rule = selected.map(|selected| selected.rule.clone());
    }

    fn with_request<T>(&self, read: impl FnOnce(&RequestHead) -> T) -> Option<T> {
        self.local.with(self.key, |stream| read(&stream.request))
    }

    /// The response as the filters left it.
    fn forward_response(
        self: &Rc<Self>,
        end: bool,
        ending: Ending,
        hop: &head::Hop,
    ) -> Response<Body> {
        let filtered = !self.chain.borrow().is_empty();
        let head = self.local.with(self.key, |stream| {
            stream.response_sent = true;
            let head = stream.response.as_mut()?;
            // Guests may still read it.
            let headers =
                if filtered { head.headers.clone() } else { std::mem::take(&mut head.headers) };
            Some((head.status, headers))
        });
        let (status, headers) = head.flatten().unwrap_or_default();
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        self.facts.borrow_mut().responded(&response);
        if self.version == Version::HTTP_11 && hop.trailers {
            if self.dialect == Dialect::Grpc {
                announce_trailers(&mut response);
            }
            self.carries_trailers.set(response.headers().contains_key(TRAILER));
        }
        if end {
            return self.finished(response, ending);
        }
        let deadline = self.deadline();
        *response.body_mut() = Body::stream(ResponseStream::new(self.clone(), ending, deadline));
        self.closing_note(response)
    }

    /// A response whose body is there already: nothing is left to do for the filters.
    fn finished(&self, response: Response<Body>, ending: Ending) -> Response<Body> {
        let mut facts = self.facts.borrow_mut();
        facts.responded(&response);
        facts.completed = true;
        facts.response_bytes += response.body().size_hint().exact().unwrap_or(0);
        drop(facts);
        self.local.with(self.key, |stream| match &mut stream.response {
            Some(head) => head.status = response.status(),
            None => {
                let head =
                    ResponseHead { status: response.status(), headers: response.headers().clone() };
                stream.response = Some(head);
            }
        });
        drop(ending);
        self.closing_note(response)
    }

    fn closing_note(&self, mut response: Response<Body>) -> Response<Body> {
        if self.closing
            && self.version != Version::HTTP_2
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn upstream_phase_in_time(
        self: &Rc<Self>,
        selected: &Selected,
        bodyless: bool,
        hop: &head::Hop,
        on_upgrade: OnUpgrade,
    ) -> Result<Response<Inlet>, Interruption> {
        let phase = self.upstream_phase(selected, bodyless, hop, on_upgrade);
        let Some(deadline) = self.request_deadline() else { return phase.await };
        match timeout_at(deadline.into(), phase).await {
            Ok(answered) => answered,
            Err(_) => {
                self.timed_out("request");
                Err(Interruption::Failure(Failure::RequestTimeout))
            }
        }
    }

    /// When `timeouts.request` is over.
    fn request_deadline(&self) -> Option<Instant> {
        let facts = self.facts.borrow();
        let timeout = facts.rule.as_ref()?.timeouts.request?;
        self.started.checked_add(timeout)
    }

    /// When the response has to have reached its end.
    fn deadline(&self) -> Option<Instant> {
        self.request_deadline().into_iter().chain(self.attempt_deadline.get()).min()
    }

    fn timed_out(&self, kind: &str) {
        let facts = self.facts.borrow();
        let backend = facts.backend.as_ref().map_or("", |backend| &*backend.name);
        self.generation.meters.timed_out(backend, kind);
    }

    /// The end, once: guests log, the contexts go, the access log gets its line.
    fn end(&self) {
        if self.ended.replace(true) {
            return;
        }
        *self.request_body.borrow_mut() = Inlet::Ended;
        *self.response_body.borrow_mut() = Inlet::Ended;
        self.seal_attributes();
        self.chain.borrow_mut().finish();
        self.record();
        self.local.remove(self.key);
        self.mailbox.wake();
        self.in_flight.take();
    }
}

/// What stands after the request's filters.
enum Ready {
    /// Goes to a backend of this rule; the flag says that the request has no body.
    Upstream(Selected, bool),
    /// Is answered by us.
    Own(Response<Inlet>),
}

/// HTTP/1 carries only trailers that the head announces.
fn announce_trailers(response: &mut Response<Body>) {
    const NAMES: HeaderValue =
        HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin");
    response.headers_mut().entry(TRAILER).or_insert(NAMES);
}
