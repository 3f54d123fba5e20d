//! Bodies on their way through the filters: read from one side only as fast as the other side takes them.

use std::fmt;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::header::TRAILER;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use portcullis_vm::{Buffer, Direction, Fields};

use super::{Ending, Exchange};
use crate::body::{Body, BodyError};
use crate::chain::{Party, Passed};
use crate::facts::Flags;
use crate::http1::RequestBody;
use crate::snapshot::{Backend, BackendProtocol};
use crate::upstream::ResponseBody;

/// Bytes of a request's body that are kept for a retry.
const REPLAY_LIMIT: usize = 64 << 10;

/// Where a body comes from.
#[derive(Debug, Default)]
pub enum Inlet {
    /// A client that speaks HTTP/1.
    Http1(RequestBody),
    /// A client that speaks HTTP/2.
    Http2(Incoming),
    /// The upstream.
    Upstream(ResponseBody),
    /// A response of ours.
    Own(Body),
    /// Nothing more comes.
    #[default]
    Ended,
}

impl Inlet {
    /// Whether nothing more comes.
    pub fn is_end(&self) -> bool {
        match self {
            Inlet::Http1(body) => body.is_end_stream(),
            Inlet::Http2(body) => body.is_end_stream(),
            Inlet::Upstream(body) => body.is_end_stream(),
            Inlet::Own(body) => body.is_end_stream(),
            Inlet::Ended => true,
        }
    }

    /// Why a request's head says nothing of where its body ends.
    pub fn fault(&self) -> Option<String> {
        match self {
            Inlet::Http1(body) => body.fault(),
            _ => None,
        }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Inlet::Http1(body) => Pin::new(body).poll_frame(context),
            Inlet::Http2(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Inlet::Upstream(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Inlet::Own(body) => Pin::new(body).poll_frame(context),
            Inlet::Ended => Poll::Ready(None),
        }
    }
}

/// What has passed the request's filters and may have to be sent again.
#[derive(Debug, Default)]
pub struct Replay {
    /// The route has retries, so what is sent is kept, up to a limit.
    pub keeps: bool,
    /// The attempt that may read on.
    pub attempt: u32,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    overflown: bool,
    ready: Buffer,
    trailers: Option<Box<Fields>>,
    /// The source has given its last piece.
    last: bool,
}

impl Replay {
    /// Whether all that was sent so far can be sent again.
    pub fn is_complete(&self) -> bool {
        !self.overflown && (self.keeps || self.kept_bytes == 0)
    }

    fn keep(&mut self, piece: &Bytes) {
        if !self.keeps || self.overflown || self.kept_bytes + piece.len() > REPLAY_LIMIT {
            self.overflown = true;
            self.kept.clear();
            return;
        }
        self.kept_bytes += piece.len();
        self.kept.push(piece.clone());
    }
}

/// Why a body ends before its end.
#[derive(Debug)]
pub struct Cut(&'static str);

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Cut {}

fn cut(reason: &'static str) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    Poll::Ready(Some(Err(Box::new(Cut(reason)))))
}

impl Exchange {
    /// Reads one piece from the source and feeds it to the filters.
    pub(super) fn poll_feed(&self, direction: Direction, context: &mut Context<'_>) -> Poll<()> {
        let inlet = match direction {
            Direction::Request => &self.request_body,
            Direction::Response => &self.response_body,
        };
        let mut source = inlet.borrow_mut();
        let frame = ready!(source.poll_frame(context));
        let ended = match &frame {
            Some(Ok(frame)) => frame.is_trailers() || source.is_end(),
            Some(Err(_)) => false,
            None => true,
        };
        if direction == Direction::Response && ended {
            self.note_upstream_end();
        }
        let mut chain = self.chain.borrow_mut();
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                let end = source.is_end();
                if direction == Direction::Request {
                    let total = self.facts.borrow_mut().received(data.len());
                    self.local.with(self.key, |stream| stream.attributes.request_bytes = total);
                }
                chain.feed_data(direction, data, end);
            }
            Some(Ok(Err(frame))) => {
                *source = Inlet::Ended;
                if let Ok(trailers) = frame.into_trailers() {
                    chain.feed_trailers(direction, (&trailers).into());
                }
            }
            Some(Err(error)) => {
                *source = Inlet::Ended;
                tracing::debug!("a body broke off: {error}");
                self.broken.set(Some(direction));
            }
            None => chain.feed_data(direction, Bytes::new(), true),
        }
        Poll::Ready(())
    }
}

impl Exchange {
    /// The response's body, if its length was told, and all of it is here and has passed the filters; what is here of a longer
    /// one stays where it is.
    pub(super) fn take_whole(&self, context: &mut Context<'_>) -> Option<Bytes> {
        const RESPONSE: Direction = Direction::Response;
        let asks = {
            let chain = self.chain.borrow();
            // What came in chunks leaves in chunks.
            chain.promised(RESPONSE)?;
            chain.passed(RESPONSE).is_none() && chain.wants_input(RESPONSE)
        };
        if asks && self.poll_feed(RESPONSE, context).is_pending() {
            return None;
        }
        let mut chain = self.chain.borrow_mut();
        chain.pump();
        let whole = match chain.passed(RESPONSE) {
            Some(Passed::Data { data, end: true }) if !chain.is_terminal() => data.whole()?,
            _ => return None,
        };
        chain.take_passed(RESPONSE);
        Some(whole)
    }

    /// An HTTP/1 upstream gets only the trailers that the head has announced.
    fn note_request_trailers(&self) {
        let announced = self.with_request(|head| head.headers.contains(TRAILER));
        let facts = self.facts.borrow();
        let http1 = |backend: &Arc<Backend>| backend.protocol == BackendProtocol::Http;
        if announced != Some(true) && facts.backend.as_ref().is_some_and(http1) {
            self.generation.meters.trailers_dropped("request");
        }
    }
}

/// The request's body on its way to the upstream, for one attempt.
///
/// It may outlive the exchange, in the hands of an upstream that answers early and reads no more.
pub struct RequestStream {
    exchange: Weak<Exchange>,
    attempt: u32,
    resent: usize,
    trailed: bool,
}

impl RequestStream {
    /// For the attempt that begins now.
    pub fn new(exchange: &Rc<Exchange>) -> RequestStream {
        let attempt = exchange.replay.borrow().attempt;
        RequestStream { exchange: Rc::downgrade(exchange), attempt, resent: 0, trailed: false }
    }
}

impl HttpBody for RequestStream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(exchange) = this.exchange.upgrade() else { return cut("the exchange is over") };
        if exchange.ended.get() || exchange.replay.borrow().attempt != this.attempt {
            return cut("the exchange is over");
        }
        exchange.mailbox.wait(Party::Request, context);
        loop {
            let mut replay = exchange.replay.borrow_mut();
            if let Some(piece) = replay.kept.get(this.resent) {
                this.resent += 1;
                return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
            }
            if let Some(piece) = replay.ready.pop() {
                replay.keep(&piece);
                this.resent = replay.kept.len();
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if let Some(trailers) = replay.trailers.clone().filter(|_| !this.trailed) {
                this.trailed = true;
                exchange.note_request_trailers();
                return Poll::Ready(Some(Ok(Frame::trailers((&*trailers).into()))));
            }
            if replay.last {
                return Poll::Ready(None);
            }
            let mut chain = exchange.chain.borrow_mut();
            chain.pump();
            if chain.is_terminal() || exchange.broken.get().is_some() {
                exchange.mailbox.wake();
                return cut("the exchange was ended while the request was sent");
            }
            match chain.take_passed(Direction::Request) {
                Some(Passed::Data { data, end }) => {
                    replay.ready = data;
                    replay.last = end;
                }
                Some(Passed::Trailers(map)) => {
                    replay.trailers = Some(map);
                    replay.last = true;
                }
                Some(Passed::Headers { .. }) => {}
                None if !chain.wants_input(Direction::Request) => return Poll::Pending,
                None => {
                    drop((chain, replay));
                    ready!(exchange.poll_feed(Direction::Request, context));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(exchange) = self.exchange.upgrade() else { return false };
        let replay = exchange.replay.borrow();
        replay.last
            && self.resent >= replay.kept.len()
            && replay.ready.is_empty()
            && (self.trailed || replay.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The response's body on its way to the client. Dropped before its end, it tells that the client has gone.
pub struct ResponseStream {
    exchange: Rc<Exchange>,
    deadline: Option<Instant>,
    begun: bool,
    /// By `content-length`; who has so many bytes does not ask for the end.
    length: Option<u64>,
    ready: Buffer,
    last: bool,
    _ending: Ending,
}

impl ResponseStream {
    /// With the time at which the exchange has to be over.
    pub fn new(
        exchange: Rc<Exchange>,
        ending: Ending,
        deadline: Option<Instant>,
    ) -> ResponseStream {
        let length = exchange.chain.borrow().promised(Direction::Response);
        ResponseStream {
            exchange,
            deadline,
            begun: false,
            length,
            ready: Buffer::default(),
            last: false,
            _ending: ending,
        }
    }

    /// Whether a body that never has to be waited for takes too long; one that is there at once cannot.
    fn is_late(&mut self) -> bool {
        let begun = std::mem::replace(&mut self.begun, true);
        begun && self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn poll_alarm(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.deadline {
            Some(deadline) => self.exchange.alarm.borrow_mut().poll(deadline, context),
            None => Poll::Pending,
        }
    }

    fn overdue(&self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.exchange.facts.borrow_mut().flags.insert(Flags::UPSTREAM_TIMEOUT);
        self.exchange.timed_out("request");
        cut("the request took too long")
    }

    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let exchange = &self.exchange;
        exchange.mailbox.wait(Party::Response, context);
        loop {
            if let Some(piece) = self.ready.pop() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.last {
                return Poll::Ready(None);
            }
            let mut chain = exchange.chain.borrow_mut();
            chain.pump();
            if chain.is_terminal() {
                exchange.facts.borrow_mut().flags.insert(Flags::LOCAL_RESET);
                return cut("a filter ended the exchange");
            }
            if exchange.broken.get() == Some(Direction::Response) {
                exchange.facts.borrow_mut().flags.insert(Flags::UPSTREAM_CONNECTION_TERMINATION);
                return cut("the upstream broke off");
            }
            match chain.take_passed(Direction::Response) {
                Some(Passed::Data { data, end }) => {
                    self.ready = data;
                    self.last = end;
                }
                Some(Passed::Trailers(map)) => {
                    self.last = true;
                    exchange.facts.borrow_mut().trailed(&map);
                    if !exchange.carries_trailers.get() {
                        exchange.generation.meters.trailers_dropped("response");
                        return Poll::Ready(None);
                    }
                    return Poll::Ready(Some(Ok(Frame::trailers((&*map).into()))));
                }
                Some(Passed::Headers { .. }) => {}
                None if !chain.wants_input(Direction::Response) => return Poll::Pending,
                None => {
                    drop(chain);
                    ready!(exchange.poll_feed(Direction::Response, context));
                }
            }
        }
    }
}

impl HttpBody for ResponseStream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.is_late() {
            return this.overdue();
        }
        let Poll::Ready(frame) = this.poll_piece(context) else {
            ready!(this.poll_alarm(context));
            return this.overdue();
        };
        let mut facts = this.exchange.facts.borrow_mut();
        match &frame {
            Some(Ok(frame)) => {
                facts.response_bytes += frame.data_ref().map_or(0, |data| data.len() as u64)
            }
            Some(Err(_)) => facts.cut = true,
            None => {}
        }
        let ended = frame.is_none() || this.last && this.ready.is_empty();
        facts.completed |= !facts.cut && (ended || this.length == Some(facts.response_bytes));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.last && self.ready.is_empty()
    }
}
