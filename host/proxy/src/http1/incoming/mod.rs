//! A message on its way in.
//!
//! All connections of a worker read into one page. What is small is copied out of it, so that waiting for a message takes no
//! memory; what is large is cut off and handed on as it is.

mod body;

use std::cell::RefCell;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::SizeHint;
use portcullis_vm::ResponseHead;
use tokio::io::AsyncReadExt as _;

use super::Problem;
use super::head::{self, Ends, Fault};
use crate::message::Request;
use crate::wire::Wire;

/// Read at one time.
const PAGE: usize = 64 << 10;
/// From here on what was read is not copied out of the page.
const LARGE: usize = PAGE / 4;
/// Bytes of an answer's head, and of trailers.
const MAX_HEAD: usize = 64 << 10;

thread_local! {
    static READ: RefCell<BytesMut> = RefCell::default();
}

/// A message, as far as it has come.
#[derive(Debug, Default)]
pub struct Incoming {
    /// Read, and not handed out.
    ahead: Bytes,
    /// How far into it no head and no trailers can end.
    searched: usize,
    /// Whether it keeps a page.
    paged: bool,
    /// Bytes of extensions of chunks.
    extensions: usize,
    state: State,
    to_head: bool,
    /// The connection carries no other exchange.
    closes: bool,
}

#[derive(Debug, Default)]
enum State {
    Head,
    /// Bytes that are left.
    Length(u64),
    ChunkLine,
    /// Bytes that are left.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    ToTheEnd,
    #[default]
    Ended,
    Failed(Problem),
}

impl From<Ends> for State {
    fn from(ends: Ends) -> State {
        match ends {
            Ends::AtOnce => State::Ended,
            Ends::After(length) => State::Length(length),
            Ends::Chunked => State::ChunkLine,
            Ends::WithConnection => State::ToTheEnd,
        }
    }
}

/// Why no request comes.
#[derive(Debug)]
pub enum Refused {
    /// What came is none.
    Fault(Fault),
    /// The connection broke within one.
    Broken(String),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Refused {
        Refused::Fault(fault)
    }
}

impl Incoming {
    /// What was read already comes first.
    pub(super) fn after(ahead: Vec<u8>) -> Incoming {
        Incoming { ahead: ahead.into(), ..Incoming::default() }
    }

    /// The answer to a request comes next; one to HEAD has no body.
    pub fn begin(&mut self, to_head: bool) {
        *self = Incoming { state: State::Head, to_head, ..Incoming::default() };
    }

    /// Whether all of the message has been taken.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether nothing but silence has followed the message, and its connection goes on.
    pub fn is_reusable(&self) -> bool {
        self.is_ended() && !self.closes && self.ahead.is_empty()
    }

    /// What was read and belongs to no message.
    pub fn into_ahead(self) -> Bytes {
        self.ahead
    }

    /// The connection carries no other exchange.
    pub fn close(&mut self) {
        self.closes = true;
    }

    /// Once all of it is gone, nothing keeps what it lay in.
    fn consume(&mut self, length: usize) -> Bytes {
        self.searched = 0;
        self.ahead.split_to(length)
    }

    /// Whether a line has ended since the last time; what trickles in is not parsed again for each byte.
    fn has_new_line(&mut self) -> bool {
        let searched = std::mem::replace(&mut self.searched, self.ahead.len());
        let fresh = self.ahead.get(searched..).unwrap_or_default();
        // Whatever comes first may be everything.
        !fresh.is_empty() && (searched == 0 || fresh.contains(&b'\n'))
    }

    /// The rest will not come, or says nothing.
    pub fn fail(&mut self, problem: Problem) {
        if !self.is_ended() {
            self.state = State::Failed(problem);
        }
    }

    /// How long the rest of the body is.
    pub fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Length(left) => SizeHint::with_exact(left),
            State::Ended => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }

    /// The head of the final answer; those before it (100, 103) concern nobody behind a proxy that does not ask for them.
    pub fn poll_response(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Problem>> {
        loop {
            match self.take_response() {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Err(Problem::Protocol(fault.to_string()))),
            }
            if ready!(self.fill(wire, context))? == 0 {
                let begun = if self.ahead.is_empty() { "before" } else { "within" };
                let reason = format!("the connection was closed {begun} the head of the answer");
                return Poll::Ready(Err(Problem::Broken(reason)));
            }
        }
    }

    fn take_response(&mut self) -> Result<Option<ResponseHead>, Fault> {
        while let Some((mut answer, length)) = self.parse(MAX_HEAD, head::response)? {
            let ends = answer.ends(self.to_head)?;
            self.consume(length);
            let status = answer.head.status;
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            self.closes = !answer.keeps_open()
                || ends == Ends::WithConnection
                || status == StatusCode::SWITCHING_PROTOCOLS;
            self.state = ends.into();
            return Ok(Some(answer.head));
        }
        Ok(None)
    }

    /// The head of the next request, at most `limit` bytes long; nothing when the client has closed the connection
    /// before. A request whose fields contradict each other has a body that fails, and is its connection's last.
    ///
    /// # Errors
    /// What comes is no request.
    pub(super) fn poll_request(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
        limit: usize,
    ) -> Poll<Result<Option<Request<()>>, Refused>> {
        loop {
            match self.take_request(limit) {
                Ok(Some(request)) => return Poll::Ready(Ok(Some(request))),
                Ok(None) => {}
                Err(fault) => {
                    self.state = State::Failed(Problem::Protocol(fault.to_string()));
                    return Poll::Ready(Err(fault.into()));
                }
            }
            let reason = match ready!(self.fill(wire, context)) {
                Ok(1..) => continue,
                // However a client leaves that has no request under way, it has left.
                _ if self.ahead.is_empty() => return Poll::Ready(Ok(None)),
                Ok(0) => "the connection was closed within the head of a request".to_owned(),
                Err(problem) => problem.to_string(),
            };
            return Poll::Ready(Err(Refused::Broken(reason)));
        }
    }

    fn take_request(&mut self, limit: usize) -> Result<Option<Request<()>>, Fault> {
        self.skip_empty_lines();
        let Some((request, length)) = self.parse(limit, head::request)? else { return Ok(None) };
        let (said, mut request) = request.split();
        self.consume(length);
        self.extensions = 0;
        self.closes = !said.keeps_open(request.version);
        self.state = match said.request_ends(request.version, &mut request.headers) {
            Ok(ends) => ends.into(),
            Err(fault) => State::Failed(Problem::Protocol(fault.to_string())),
        };
        Ok(Some(request))
    }

    /// Some clients send one after a body; it begins no request (RFC 9112, 2.2).
    fn skip_empty_lines(&mut self) {
        let mut rest = &self.ahead[..];
        while let [b'\r', b'\n', after @ ..] | [b'\n', after @ ..] = rest {
            rest = after;
        }
        let length = self.ahead.len() - rest.len();
        if length > 0 {
            self.consume(length);
        }
    }

    /// The head at the beginning of what was read, and how long it is; nothing while it is incomplete.
    fn parse<M>(
        &mut self,
        limit: usize,
        parse: impl Fn(&[u8]) -> Result<Option<(M, usize)>, Fault>,
    ) -> Result<Option<(M, usize)>, Fault> {
        if self.has_new_line()
            && let Some((message, length)) = parse(&self.ahead)?
        {
            if length > limit {
                return Err(Fault::TooLarge);
            }
            return Ok(Some((message, length)));
        }
        match self.ahead.len() > limit {
            true => Err(Fault::TooLarge),
            false => Ok(None),
        }
    }

    /// Why the fields of the request at hand say nothing of its body.
    pub(super) fn failure(&self) -> Option<&Problem> {
        match &self.state {
            State::Failed(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether more was read than has been taken.
    pub(super) fn has_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// The connection may carry another message.
    pub(super) fn goes_on(&self) -> bool {
        !self.closes && !matches!(self.state, State::Failed(_))
    }

    /// Reads over what comes; false once the sender has closed the connection or it broke.
    pub(super) fn poll_over(&mut self, wire: &mut Wire, context: &mut Context<'_>) -> Poll<bool> {
        self.ahead.clear();
        self.fill(wire, context).map(|read| matches!(read, Ok(1..)))
    }

    /// Waits until the sender has closed the connection, or it broke. Whoever sends something is still there: no more is
    /// read then, and nothing is said.
    pub(super) fn poll_gone(&mut self, wire: &mut Wire, context: &mut Context<'_>) -> Poll<()> {
        if self.has_ahead() {
            return Poll::Pending;
        }
        match ready!(self.fill(wire, context)) {
            Ok(1..) => Poll::Pending,
            Ok(0) | Err(_) => Poll::Ready(()),
        }
    }

    /// Reads what is there; nothing at the end of the connection.
    fn fill(&mut self, wire: &mut Wire, context: &mut Context<'_>) -> Poll<Result<usize, Problem>> {
        READ.with_borrow_mut(|page| {
            page.reserve(PAGE);
            let read = ready!(pin!(wire.read_buf(page)).poll(context));
            let read = read.map_err(|error| {
                Problem::Broken(format!("the connection could not be read: {error}"))
            })?;
            let fresh = if read < LARGE {
                let copied = Bytes::copy_from_slice(page);
                page.clear();
                copied
            } else {
                page.split().freeze()
            };
            self.ahead = match self.ahead.is_empty() {
                true => fresh,
                false => Bytes::from([&self.ahead[..], &fresh].concat()),
            };
            self.paged = self.ahead.len() >= LARGE;
            Poll::Ready(Ok(read))
        })
    }
}
