//! A message on its way out: its head, then its body as the source gives it; what is there at the same time leaves together.

use std::cell::Cell;
use std::io::{self, IoSlice, Write as _};
use std::mem::take;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HOST, HeaderMap, HeaderName, MAX_FORWARDS, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use http_body::Body as _;
use portcullis_vm::Fields;
use tokio::io::AsyncWrite;

use super::head::elements;
use crate::body::Body;

/// So much room is for a head, and goes with it; what is smaller is for the sizes of chunks.
const ROOMY: usize = 256;
/// What a worker may keep of the room that its last head needed.
const KEPT: usize = 16 << 10;
/// So much of a body is copied behind the head: one piece leaves by a cheaper system call than two.
const SMALL: usize = 512;
const END_OF_CHUNK: &[u8] = b"\r\n";
const END_OF_LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

thread_local! {
    /// Room for heads that was used last, by whichever connection: it is still in the processor's cache, and a connection whose
    /// head has left has none.
    static ROOM: Cell<Vec<u8>> = Cell::default();
}

/// Fields that change what a message means, which trailers may not do (RFC 9110, 6.5.1).
const NO_TRAILERS: [HeaderName; 12] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HOST,
    MAX_FORWARDS,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
];

/// How the recipient learns where the body ends (RFC 9112, 6).
#[derive(Debug)]
pub enum Framing {
    /// By `content-length`; the bytes still to come.
    Length(u64),
    /// In chunks, and behind them those trailers that this list names.
    Chunked(Vec<u8>),
    /// By the end of the connection: HTTP/1.0 knows no chunks.
    ToTheEnd,
}

/// Why nothing more goes out.
#[derive(Debug)]
pub enum Failed {
    /// The connection takes nothing.
    Wire(io::Error),
    /// The source of the body broke, or gave more or less than it had promised.
    Body(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Wire(error)
    }
}

/// A message, as far as it is not written yet.
pub struct Outgoing {
    /// The head, the size of a chunk, or the end of a chunked body.
    front: Vec<u8>,
    front_written: usize,
    piece: Bytes,
    back: &'static [u8],
    body: Body,
    framing: Framing,
    progress: Progress,
    /// Whether the body was asked for, or anything was written.
    touched: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The body has not ended.
    Open,
    /// All that is left is in the buffers.
    Last,
    Done,
}

impl Default for Outgoing {
    fn default() -> Outgoing {
        Outgoing {
            front: Vec::new(),
            front_written: 0,
            piece: Bytes::new(),
            back: &[],
            body: Body::Empty,
            framing: Framing::Length(0),
            progress: Progress::Done,
            touched: true,
        }
    }
}

impl Outgoing {
    /// Takes a message; `head` writes its head.
    ///
    /// # Errors
    /// Those of `head`; the body goes back.
    pub fn begin(
        &mut self,
        body: Body,
        head: impl FnOnce(&mut Vec<u8>, &Body) -> Result<Framing, String>,
    ) -> Result<(), (String, Body)> {
        self.clear();
        self.front = ROOM.take();
        // However short the head, there is room to be passed on.
        self.front.reserve(ROOMY);
        match head(&mut self.front, &body) {
            Ok(framing) => self.framing = framing,
            Err(reason) => {
                self.clear();
                return Err((reason, body));
            }
        }
        self.body = body;
        self.touched = false;
        self.progress = Progress::Open;
        Ok(())
    }

    fn clear(&mut self) {
        self.empty_front();
        self.front = Vec::new();
    }

    /// The room of a head goes to the next one that anybody writes.
    fn empty_front(&mut self) {
        self.front.clear();
        self.front_written = 0;
        if self.front.capacity() >= ROOMY {
            let room = take(&mut self.front);
            if room.capacity() <= KEPT {
                ROOM.set(room);
            }
        }
    }

    /// Whether all of it is written.
    pub fn is_done(&self) -> bool {
        self.progress == Progress::Done
    }

    /// Whether the connection, or the source of the body, knows of the message.
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// The body, if neither it nor the connection knows of the message.
    pub fn take_untouched(&mut self) -> Option<Body> {
        (!self.touched).then(|| take(&mut self.body))
    }

    /// Writes until all is written, or the body or the connection has to be waited for.
    ///
    /// # Errors
    /// The message cannot be completed.
    pub fn poll(
        &mut self,
        wire: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Failed>> {
        loop {
            let open = self.progress == Progress::Open;
            let waits = open && self.poll_body(context)?.is_pending();
            while self.has_bytes() {
                let written = ready!(self.poll_write(wire, context))?;
                if written == 0 {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
                }
                self.touched = true;
                self.advance(written);
            }
            if self.progress == Progress::Last {
                ready!(Pin::new(&mut *wire).poll_flush(context))?;
                self.progress = Progress::Done;
                self.body = Body::Empty;
                self.clear();
                return Poll::Ready(Ok(()));
            }
            if waits {
                ready!(Pin::new(&mut *wire).poll_flush(context))?;
                return Poll::Pending;
            }
        }
    }

    /// Fills the buffers from the body, once the last of it has left them.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if !self.piece.is_empty() || !self.back.is_empty() {
            return Poll::Ready(Ok(()));
        }
        // One that lies here whole can be taken back for as long as nothing is written.
        if let Body::Full(whole) = &self.body {
            let whole = whole.clone();
            return Poll::Ready(self.take_data(whole, true));
        }
        self.touched |= matches!(self.body, Body::Stream(_));
        match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let last = self.body.is_end_stream();
                    self.take_data(data, last)?;
                }
                Err(frame) => {
                    self.finish()?;
                    self.take_trailers(&frame.into_trailers().unwrap_or_default());
                }
            },
            // Nothing was missing but the word that it is the end.
            Some(Err(_)) if matches!(self.framing, Framing::Length(0)) => self.finish()?,
            Some(Err(error)) => return Poll::Ready(Err(Failed::Body(error.to_string()))),
            None => self.finish()?,
        }
        Poll::Ready(Ok(()))
    }

    fn take_data(&mut self, data: Bytes, last: bool) -> Result<(), Failed> {
        match &mut self.framing {
            Framing::Length(left) => {
                let rest = left.checked_sub(data.len() as u64);
                *left = rest.ok_or_else(|| {
                    Failed::Body("the body is longer than its content-length".to_owned())
                })?;
                self.take_piece(data, last);
            }
            Framing::ToTheEnd => self.take_piece(data, last),
            Framing::Chunked(_) if data.is_empty() => {}
            Framing::Chunked(_) => {
                write!(self.front, "{:x}\r\n", data.len())?;
                self.piece = data;
                self.back = END_OF_CHUNK;
            }
        }
        match last {
            true => self.finish(),
            false => Ok(()),
        }
    }

    /// Only the last piece may lie in front: what does keeps nobody from asking for more.
    fn take_piece(&mut self, data: Bytes, last: bool) {
        if last && data.len() <= SMALL && !self.front.is_empty() {
            self.front.extend_from_slice(&data);
        } else {
            self.piece = data;
        }
    }

    /// The body has ended.
    fn finish(&mut self) -> Result<(), Failed> {
        if self.progress != Progress::Open {
            return Ok(());
        }
        match &self.framing {
            Framing::Length(0) | Framing::ToTheEnd => {}
            Framing::Length(left) => {
                let reason = format!("the body ends {left} bytes before its content-length");
                return Err(Failed::Body(reason));
            }
            Framing::Chunked(_) if self.back.is_empty() => {
                self.front.extend_from_slice(b"0\r\n\r\n");
            }
            Framing::Chunked(_) => self.back = END_OF_LAST_CHUNK,
        }
        self.progress = Progress::Last;
        if matches!(self.body, Body::Stream(_)) {
            // Its exchange is over before the other side can know.
            self.body = Body::Empty;
        }
        Ok(())
    }

    /// Between the last chunk, which is in front, and the empty line behind it.
    fn take_trailers(&mut self, trailers: &HeaderMap) {
        let Framing::Chunked(announced) = &self.framing else { return };
        self.front.truncate(self.front.len() - END_OF_CHUNK.len());
        for (name, value) in trailers {
            if is_announced(announced, name) && !NO_TRAILERS.contains(name) {
                write_field(&mut self.front, name, value);
            }
        }
        self.front.extend_from_slice(END_OF_CHUNK);
    }

    fn has_bytes(&self) -> bool {
        self.front_written < self.front.len() || !self.piece.is_empty() || !self.back.is_empty()
    }

    fn poll_write(
        &self,
        wire: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let front = &self.front[self.front_written..];
        let wire = Pin::new(wire);
        let slices = [front, &self.piece, self.back];
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        if let (Some(only), None) = (filled.next(), filled.next()) {
            return wire.poll_write(context, only);
        }
        let slices = slices.map(IoSlice::new);
        let empty = usize::from(front.is_empty());
        wire.poll_write_vectored(context, &slices[empty..])
    }

    fn advance(&mut self, mut written: usize) {
        let front = written.min(self.front.len() - self.front_written);
        self.front_written += front;
        written -= front;
        if self.front_written == self.front.len() {
            self.empty_front();
        }
        let piece = written.min(self.piece.len());
        self.piece.advance(piece);
        self.back = &self.back[(written - piece).min(self.back.len())..];
    }
}

/// Writes a field's line.
pub fn write_field(out: &mut Vec<u8>, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    let (name, value) = (name.as_ref(), value.as_ref());
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Trailers that a head announces, as one list.
pub fn announced(headers: &Fields) -> Vec<u8> {
    let mut list = Vec::new();
    for names in headers.get_all(&TRAILER) {
        list.extend_from_slice(names);
        list.push(b',');
    }
    list
}

fn is_announced(announced: &[u8], name: &HeaderName) -> bool {
    elements(announced).any(|one| one.eq_ignore_ascii_case(name.as_ref()))
}
