//! The body of a message on its way in: pieces, chunks and trailers (RFC 9112, 7.1).

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::super::Problem;
use super::super::head::{self, Fault};
use super::{Incoming, LARGE, MAX_HEAD, State, keep};
use crate::wire::Wire;

/// A piece that is smaller is copied out of the page that it lies in, which it would keep.
const SMALL: usize = LARGE / 4;
const ENDLESS: &str = "chunks or trailers have lines without an end";
/// Bytes of a line that begins a chunk, and of all extensions in such lines of a body; nobody reads them.
const MAX_CHUNK_LINE: usize = 4 << 10;
const MAX_EXTENSIONS: usize = 16 << 10;

/// What can be said without reading on.
enum Step {
    Frame(Frame<Bytes>),
    /// A line said how to go on.
    On,
    End,
    Read,
}

fn malformed(reason: &str) -> Fault {
    Fault::Malformed(reason.to_owned())
}

impl Incoming {
    /// The next piece of the body, or the trailers.
    pub fn poll_frame(
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
            if ready!(self.fill(wire, context, keep))? > 0 {
                continue;
            }
            if !matches!(self.state, State::ToTheEnd) {
                let reason = "the connection was closed within the body".to_owned();
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
                return Ok(Step::Frame(Frame::data(std::mem::take(&mut self.ahead).freeze())));
            }
            State::Length(left) | State::Chunk(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(self.ahead.len());
                *left -= length as u64;
                let piece = self.piece(length);
                self.settle();
                return Ok(Step::Frame(Frame::data(piece)));
            }
            State::Head | State::ChunkLine | State::ChunkEnd | State::Trailers => {}
        }
        self.step_over_line().map_err(|fault| Problem::Protocol(fault.to_string()))
    }

    /// Part of a body. What is small keeps no page.
    fn piece(&mut self, length: usize) -> Bytes {
        if self.paged && length < SMALL {
            let piece = Bytes::copy_from_slice(&self.ahead[..length]);
            self.consume(length);
            return piece;
        }
        if length == self.ahead.len() {
            return std::mem::take(&mut self.ahead).freeze();
        }
        self.ahead.split_to(length).freeze()
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

    fn step_over_line(&mut self) -> Result<Step, Fault> {
        match self.state {
            State::ChunkLine => self.step_over_chunk_line(),
            State::ChunkEnd => match self.ahead.get(..2) {
                Some(b"\r\n") => {
                    self.consume(2);
                    self.state = State::ChunkLine;
                    Ok(Step::On)
                }
                Some(_) => Err(malformed("a chunk is longer than its size")),
                None => Ok(Step::Read),
            },
            _ => self.step_over_trailers(),
        }
    }

    fn step_over_chunk_line(&mut self) -> Result<Step, Fault> {
        let Some(line) = ChunkLine::at_beginning(&self.ahead)? else {
            return self.read_on(MAX_CHUNK_LINE);
        };
        self.extensions += line.extensions;
        if line.length > MAX_CHUNK_LINE || self.extensions > MAX_EXTENSIONS {
            return Err(malformed(ENDLESS));
        }
        self.consume(line.length);
        self.state = if line.size == 0 { State::Trailers } else { State::Chunk(line.size) };
        Ok(Step::On)
    }

    fn step_over_trailers(&mut self) -> Result<Step, Fault> {
        let mut taken = Ok(None);
        self.show(|incoming, read| taken = incoming.parse(read, MAX_HEAD, head::trailers));
        let trailers = match taken {
            Ok(Some(trailers)) => trailers,
            Ok(None) => return Ok(Step::Read),
            Err(Fault::TooLarge) => return Err(malformed(ENDLESS)),
            Err(fault) => return Err(fault),
        };
        self.state = State::Ended;
        let none = trailers.is_empty();
        Ok(if none { Step::End } else { Step::Frame(Frame::trailers((&trailers).into())) })
    }

    fn read_on(&self, limit: usize) -> Result<Step, Fault> {
        match self.ahead.len() > limit {
            true => Err(malformed(ENDLESS)),
            false => Ok(Step::Read),
        }
    }
}

/// What begins a chunk.
#[derive(Debug, PartialEq)]
pub(in super::super) struct ChunkLine {
    pub(in super::super) length: usize,
    pub(in super::super) extensions: usize,
    /// Of the chunk.
    pub(in super::super) size: u64,
}

impl ChunkLine {
    /// Nothing while it is incomplete. It ends with both characters: recipients differ in what they make of one of them.
    pub(in super::super) fn at_beginning(bytes: &[u8]) -> Result<Option<ChunkLine>, Fault> {
        let no_size = || malformed("a chunk has no size");
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let line = &bytes[..end.unwrap_or(bytes.len())];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extensions) = line.split_at(digits);
        let size = size(digits).ok_or_else(no_size)?;
        let extensions = match (extensions.strip_suffix(b"\r"), end) {
            (None, Some(_)) => return Err(no_size()),
            (stripped, _) => stripped.unwrap_or(extensions),
        };
        let first = extensions.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
        if first.is_some_and(|first| *first != b';') || extensions.contains(&b'\r') {
            return Err(no_size());
        }
        let line = |end| ChunkLine { length: end + 1, extensions: extensions.len(), size };
        Ok(end.map(line))
    }
}

/// So many digits at the most.
fn size(digits: &[u8]) -> Option<u64> {
    const MOST: usize = 16;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() <= MOST)?;
    u64::from_str_radix(digits, 16).ok()
}
