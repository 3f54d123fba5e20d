//! An answer on its way in.
//!
//! All connections of a worker read into one page. What is small is copied out of it, so that waiting for an answer takes no
//! memory; what is large is cut off and handed on as it is.

use std::cell::RefCell;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use httparse::Status;
use tokio::io::AsyncReadExt as _;

use super::Problem;
use super::head::{self, Ends};
use crate::upstream::wire::Wire;

/// Read at one time.
const PAGE: usize = 64 << 10;
/// From here on what was read is not copied out of the page.
const LARGE: usize = PAGE / 4;
/// Below this it is after all, if a body comes in such small pieces: a piece keeps the page that it lies in.
const SMALL: usize = LARGE / 4;
/// Bytes of a head, and of trailers.
const MAX_HEAD: usize = 64 << 10;
const END_OF_LINE: usize = 2;
const ENDLESS: &str = "the answer's chunks or trailers have lines without an end";
const TOO_LONG: &str = "the answer's head is longer than 64 KiB";
/// Bytes of a line that begins a chunk, and of all extensions in such lines of a body; nobody reads them.
const MAX_CHUNK_LINE: usize = 4 << 10;
const MAX_EXTENSIONS: usize = 16 << 10;

thread_local! {
    static READ: RefCell<BytesMut> = RefCell::default();
}

/// An answer, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Incoming {
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

/// What can be said without reading on.
enum Step {
    Frame(Frame<Bytes>),
    /// A line said how to go on.
    On,
    End,
    Read,
}

impl Incoming {
    pub(super) fn begin(&mut self, to_head: bool) {
        *self = Incoming { state: State::Head, to_head, ..Incoming::default() };
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether nothing but silence has followed the answer, and its connection goes on.
    pub(super) fn is_reusable(&self) -> bool {
        self.is_ended() && !self.closes && self.ahead.is_empty()
    }

    pub(super) fn into_ahead(self) -> Bytes {
        self.ahead
    }

    /// The connection carries no other exchange.
    pub(super) fn close(&mut self) {
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
        self.ahead.get(searched..).is_some_and(|fresh| fresh.contains(&b'\n'))
    }

    /// The rest will not come, or says nothing.
    pub(super) fn fail(&mut self, problem: Problem) {
        if !self.is_ended() {
            self.state = State::Failed(problem);
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Length(left) => SizeHint::with_exact(left),
            State::Ended => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }

    /// The head of the final answer; those before it (100, 103) concern nobody behind a proxy that does not ask for them.
    pub(super) fn poll_head(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, Problem>> {
        loop {
            match self.take_head() {
                Ok(Some(response)) => return Poll::Ready(Ok(response)),
                Ok(None) => {}
                Err(reason) => return Poll::Ready(Err(Problem::Protocol(reason))),
            }
            if ready!(self.fill(wire, context))? == 0 {
                let begun = if self.ahead.is_empty() { "before" } else { "within" };
                let reason = format!("the connection was closed {begun} the head of the answer");
                return Poll::Ready(Err(Problem::Broken(reason)));
            }
        }
    }

    fn take_head(&mut self) -> Result<Option<Response<()>>, String> {
        while self.has_new_line() {
            let Some((mut response, length)) = head::parse(&self.ahead)? else { break };
            if length > MAX_HEAD {
                return Err(TOO_LONG.to_owned());
            }
            if self.paged {
                // Fields may be kept for as long as the exchange takes.
                let copied = Bytes::copy_from_slice(&self.ahead[..length]);
                let Some((same, _)) = head::parse(&copied)? else { break };
                response = same;
            }
            let ends = head::ends(&mut response, self.to_head)?;
            self.consume(length);
            let status = response.status();
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            self.closes = !head::keeps_open(&response)
                || ends == Ends::WithConnection
                || status == StatusCode::SWITCHING_PROTOCOLS;
            self.state = match ends {
                Ends::AtOnce => State::Ended,
                Ends::After(length) => State::Length(length),
                Ends::Chunked => State::ChunkLine,
                Ends::WithConnection => State::ToTheEnd,
            };
            return Ok(Some(response));
        }
        match self.ahead.len() > MAX_HEAD {
            true => Err(TOO_LONG.to_owned()),
            false => Ok(None),
        }
    }

    /// The next piece of the body, or the trailers.
    pub(super) fn poll_frame(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Problem>>> {
        loop {
            match self.step() {
                Ok(Step::Frame(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(Step::End) => return Poll::Ready(None),
                Ok(Step::On) => continue,
                Ok(Step::Read) => {}
                Err(problem) => return Poll::Ready(Some(Err(problem))),
            }
            if ready!(self.fill(wire, context))? > 0 {
                continue;
            }
            if !matches!(self.state, State::ToTheEnd) {
                let reason = "the connection was closed within the answer's body".to_owned();
                return Poll::Ready(Some(Err(Problem::Broken(reason))));
            }
            self.state = State::Ended;
        }
    }

    fn step(&mut self) -> Result<Step, Problem> {
        match &mut self.state {
            State::Ended => return Ok(Step::End),
            State::Failed(problem) => return Err(problem.clone()),
            _ if self.ahead.is_empty() => return Ok(Step::Read),
            State::ToTheEnd => {
                return Ok(Step::Frame(Frame::data(std::mem::take(&mut self.ahead))));
            }
            State::Length(left) | State::Chunk(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(self.ahead.len());
                *left -= length as u64;
                let mut piece = self.consume(length);
                if self.paged && length < SMALL {
                    piece = Bytes::copy_from_slice(&piece);
                }
                self.settle();
                return Ok(Step::Frame(Frame::data(piece)));
            }
            State::Head | State::ChunkLine | State::ChunkEnd | State::Trailers => {}
        }
        self.step_over_line().map_err(Problem::Protocol)
    }

    /// Learns from what is there already whether the piece just taken was the last: who knows need not ask again.
    fn settle(&mut self) {
        match self.state {
            State::Length(0) => self.state = State::Ended,
            State::Chunk(0) => {
                self.state = State::ChunkEnd;
                // What is wrong with them is found again by the next step.
                while matches!(self.state, State::ChunkEnd | State::ChunkLine)
                    && matches!(self.step_over_line(), Ok(Step::On))
                {}
                if matches!(self.state, State::Trailers) && self.ahead.starts_with(b"\r\n") {
                    self.consume(2);
                    self.state = State::Ended;
                }
            }
            _ => {}
        }
    }

    fn step_over_line(&mut self) -> Result<Step, String> {
        match self.state {
            State::ChunkLine => self.step_over_chunk_line(),
            State::ChunkEnd => match self.ahead.get(..2) {
                Some(b"\r\n") => {
                    self.consume(2);
                    self.state = State::ChunkLine;
                    Ok(Step::On)
                }
                Some(_) => Err("a chunk of the answer is longer than its size".to_owned()),
                None => Ok(Step::Read),
            },
            _ => self.step_over_trailers(),
        }
    }

    fn step_over_chunk_line(&mut self) -> Result<Step, String> {
        let no_size = || "a chunk of the answer has no size".to_owned();
        let parsed = httparse::parse_chunk_size(&self.ahead).map_err(|_| no_size())?;
        let Status::Complete((length, size)) = parsed else {
            return match self.ahead.contains(&b'\n') {
                true => Err(no_size()),
                false => self.read_on(MAX_CHUNK_LINE),
            };
        };
        // httparse takes a line without a digit for a zero, and reads over a line feed in an extension.
        let digits = self.ahead.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits == 0 || self.ahead.iter().position(|byte| *byte == b'\n') != Some(length - 1) {
            return Err(no_size());
        }
        self.extensions += length - digits - END_OF_LINE;
        if length > MAX_CHUNK_LINE || self.extensions > MAX_EXTENSIONS {
            return Err(ENDLESS.to_owned());
        }
        self.consume(length);
        self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
        Ok(Step::On)
    }

    fn step_over_trailers(&mut self) -> Result<Step, String> {
        if !self.has_new_line() {
            return self.read_on(MAX_HEAD);
        }
        let Some((trailers, length)) = head::parse_trailers(&self.ahead)? else {
            return self.read_on(MAX_HEAD);
        };
        if length > MAX_HEAD {
            return Err(ENDLESS.to_owned());
        }
        self.consume(length);
        self.state = State::Ended;
        let none = trailers.is_empty();
        Ok(if none { Step::End } else { Step::Frame(Frame::trailers(trailers)) })
    }

    fn read_on(&self, limit: usize) -> Result<Step, String> {
        match self.ahead.len() > limit {
            true => Err(ENDLESS.to_owned()),
            false => Ok(Step::Read),
        }
    }

    /// Reads what is there; nothing at the end of the connection.
    fn fill(&mut self, wire: &mut Wire, context: &mut Context<'_>) -> Poll<Result<usize, Problem>> {
        READ.with_borrow_mut(|page| {
            page.reserve(PAGE);
            let read = ready!(pin!(wire.read_buf(page)).poll(context));
            let read = read.map_err(|error| {
                Problem::Broken(format!("the answer could not be read: {error}"))
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
