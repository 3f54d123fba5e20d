//! A message on its way in.
//!
//! All connections of a worker read into one page. Heads are parsed where they lie in it. What is left and small is copied
//! out, so that waiting for a message takes no memory; what is large is cut off and handed on as it is.

mod body;

#[cfg(test)]
pub(super) use body::ChunkLine;

use std::cell::RefCell;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;
use http_body::SizeHint;
use portcullis_vm::ResponseHead;
use tokio::io::AsyncReadExt as _;

use super::Problem;
use super::head::{self, Asking, Ends, Fault};
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
    ahead: BytesMut,
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
        Incoming { ahead: Bytes::from(ahead).into(), ..Incoming::default() }
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
        self.ahead.freeze()
    }

    /// The connection carries no other exchange.
    pub fn close(&mut self) {
        self.closes = true;
    }

    /// Once all of it is gone, nothing keeps what it lay in.
    fn consume(&mut self, length: usize) {
        match length < self.ahead.len() {
            true => self.ahead.advance(length),
            false => self.ahead = BytesMut::new(),
        }
    }

    /// Whether a line has ended since the last time; what trickles in is not parsed again for each byte.
    fn has_new_line(&mut self, read: &[u8]) -> bool {
        let searched = std::mem::replace(&mut self.searched, read.len());
        let fresh = read.get(searched..).unwrap_or_default();
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
        let mut taken = Ok(None);
        self.show(|incoming, read| taken = incoming.take_response(read));
        loop {
            match taken {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Err(Problem::Protocol(fault.to_string()))),
            }
            taken = Ok(None);
            let filled = self.fill(wire, context, |incoming, read| {
                taken = incoming.take_response(read);
            });
            if ready!(filled)? == 0 {
                let begun = if self.ahead.is_empty() { "before" } else { "within" };
                let reason = format!("the connection was closed {begun} the head of the answer");
                return Poll::Ready(Err(Problem::Broken(reason)));
            }
        }
    }

    fn take_response(&mut self, read: &mut &mut [u8]) -> Result<Option<ResponseHead>, Fault> {
        while let Some(mut answer) = self.parse(read, MAX_HEAD, head::response)? {
            let ends = answer.ends(self.to_head)?;
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
    ) -> Poll<Result<Option<Request>, Refused>> {
        let mut taken = Ok(None);
        self.show(|incoming, read| taken = incoming.take_request(read, limit));
        loop {
            match taken {
                Ok(Some(request)) => return Poll::Ready(Ok(Some(request))),
                Ok(None) => {}
                Err(fault) => {
                    self.state = State::Failed(Problem::Protocol(fault.to_string()));
                    return Poll::Ready(Err(fault.into()));
                }
            }
            taken = Ok(None);
            let filled = self.fill(wire, context, |incoming, read| {
                taken = incoming.take_request(read, limit);
            });
            let reason = match ready!(filled) {
                Ok(1..) => continue,
                // However a client leaves that has no request under way, it has left.
                _ if self.ahead.is_empty() => return Poll::Ready(Ok(None)),
                Ok(0) => "the connection was closed within the head of a request".to_owned(),
                Err(problem) => problem.to_string(),
            };
            return Poll::Ready(Err(Refused::Broken(reason)));
        }
    }

    fn take_request(
        &mut self,
        read: &mut &mut [u8],
        limit: usize,
    ) -> Result<Option<Request>, Fault> {
        self.skip_empty_lines(read);
        let parsed = self.parse(read, limit, head::request)?;
        let Some(Asking { request, ends, keeps_open }) = parsed else { return Ok(None) };
        self.extensions = 0;
        self.closes = !keeps_open;
        self.state = match ends {
            Ok(ends) => ends.into(),
            Err(fault) => State::Failed(Problem::Protocol(fault.to_string())),
        };
        Ok(Some(request))
    }

    /// Some clients send one after a body; it begins no request (RFC 9112, 2.2).
    fn skip_empty_lines(&mut self, read: &mut &mut [u8]) {
        loop {
            let length = match read {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] => 1,
                _ => return,
            };
            _ = read.split_off_mut(..length);
            self.searched = 0;
        }
    }

    /// Takes the head, or the trailers, at the beginning of what was read; nothing while they are incomplete.
    fn parse<M>(
        &mut self,
        read: &mut &mut [u8],
        limit: usize,
        parse: impl Fn(&mut [u8]) -> Result<Option<(M, usize)>, Fault>,
    ) -> Result<Option<M>, Fault> {
        if self.has_new_line(read)
            && let Some((message, length)) = parse(read)?
        {
            if length > limit {
                return Err(Fault::TooLarge);
            }
            _ = read.split_off_mut(..length);
            self.searched = 0;
            return Ok(Some(message));
        }
        match read.len() > limit {
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
        self.ahead = BytesMut::new();
        let over = |_: &mut Incoming, read: &mut &mut [u8]| *read = &mut [];
        self.fill(wire, context, over).map(|read| matches!(read, Ok(1..)))
    }

    /// Waits until the sender has closed the connection, or it broke. Whoever sends something is still there: no more is
    /// read then, and nothing is said.
    pub(super) fn poll_gone(&mut self, wire: &mut Wire, context: &mut Context<'_>) -> Poll<()> {
        if self.has_ahead() {
            return Poll::Pending;
        }
        match ready!(self.fill(wire, context, keep)) {
            Ok(1..) => Poll::Pending,
            Ok(0) | Err(_) => Poll::Ready(()),
        }
    }

    /// Shows what is ahead to `take`, which cuts off what it wants.
    fn show(&mut self, take: impl FnOnce(&mut Incoming, &mut &mut [u8])) {
        if self.ahead.is_empty() {
            return;
        }
        let mut ahead = std::mem::take(&mut self.ahead);
        let mut left = &mut ahead[..];
        take(self, &mut left);
        let left = left.len();
        // Once all of it is gone, nothing keeps what it lay in.
        if left > 0 {
            ahead.advance(ahead.len() - left);
            self.ahead = ahead;
        }
    }

    /// Reads what is there, and shows it to `take` where it lies; nothing at the end of the connection.
    fn fill(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
        take: impl FnOnce(&mut Incoming, &mut &mut [u8]),
    ) -> Poll<Result<usize, Problem>> {
        READ.with_borrow_mut(|page| {
            // Nothing is left in it but by a panic of who was shown it.
            page.clear();
            page.reserve(PAGE);
            let read = ready!(pin!(wire.read_buf(page)).poll(context));
            let read = read.map_err(|error| {
                Problem::Broken(format!("the connection could not be read: {error}"))
            })?;
            if self.ahead.is_empty() && read < LARGE {
                let mut left = &mut page[..];
                take(self, &mut left);
                if !left.is_empty() {
                    self.ahead = BytesMut::from(&*left);
                    self.paged = false;
                }
                page.clear();
                return Poll::Ready(Ok(read));
            }
            if self.ahead.is_empty() {
                self.ahead = page.split();
            } else {
                let mut joined = BytesMut::with_capacity(self.ahead.len() + read);
                joined.extend_from_slice(&self.ahead);
                joined.extend_from_slice(page);
                self.ahead = joined;
                page.clear();
            }
            self.paged = self.ahead.len() >= LARGE;
            self.show(take);
            Poll::Ready(Ok(read))
        })
    }
}

/// Leaves everything to those who ask next.
fn keep(_: &mut Incoming, _: &mut &mut [u8]) {}
