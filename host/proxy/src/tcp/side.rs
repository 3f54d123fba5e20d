//! One of the two connections: what is read of it, what is still to be written to it, and which of its two ends are
//! reached. Knows nothing of filters.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use portcullis_vm::Buffer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Read at a time.
const CHUNK: usize = 16 << 10;
/// Chunks written at a time: filters put small pieces before and between large ones.
const SLICES: usize = 16;

/// What was read.
#[derive(Debug)]
pub struct Piece {
    /// May be empty at the end.
    pub bytes: Bytes,
    /// Nothing follows.
    pub end: bool,
}

/// A connection with what is to be written to it.
#[derive(Debug)]
pub struct Side<T> {
    stream: T,
    /// Read before anybody asked.
    first: Bytes,
    /// What the next read finds.
    broken: Option<io::Error>,
    waiting: Buffer,
    unflushed: bool,
    /// Nothing follows what is to be written.
    last: bool,
    shut: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Side<T> {
    /// `first` was read of it already.
    pub fn new(stream: T, first: Vec<u8>) -> Side<T> {
        Side {
            stream,
            first: first.into(),
            broken: None,
            waiting: Buffer::default(),
            unflushed: false,
            last: false,
            shut: false,
        }
    }

    /// What has come, up to the end if that has.
    pub fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        if !self.first.is_empty() {
            let bytes = std::mem::take(&mut self.first);
            return Poll::Ready(Ok(Piece { bytes, end: false }));
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        let mut buffer = ReadBuf::uninit(&mut chunk);
        let end = loop {
            let before = buffer.filled().len();
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Pending if before == 0 => return Poll::Pending,
                Poll::Pending => break false,
                Poll::Ready(Ok(())) if buffer.filled().len() == before => break true,
                Poll::Ready(Ok(())) if buffer.remaining() == 0 => break false,
                Poll::Ready(Ok(())) => {}
                // A TLS peer that has gone without saying so; many do.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    break true;
                }
                Poll::Ready(Err(error)) if before == 0 => return Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    // What came before counts first, and the system tells of an error only once.
                    self.broken = Some(error);
                    break false;
                }
            }
        };
        Poll::Ready(Ok(Piece { bytes: Bytes::copy_from_slice(buffer.filled()), end }))
    }

    /// Has these bytes written; `last`: nothing follows.
    pub fn push(&mut self, mut data: Buffer, last: bool) {
        self.waiting.append(&mut data);
        self.last |= last;
    }

    /// Whether everything so far has been written.
    pub fn is_drained(&self) -> bool {
        self.waiting.is_empty() && !self.unflushed
    }

    /// Whether the other end has been told that nothing follows.
    pub fn is_shut(&self) -> bool {
        self.shut
    }

    /// Writes what can be written now, and the end once it is due. Whether anything moved.
    pub fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while !self.waiting.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = slices.iter_mut().zip(self.waiting.chunks());
            let count = filled.map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count();
            match Pin::new(&mut self.stream).poll_write_vectored(context, &slices[..count]) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    self.waiting.advance(written?);
                    self.unflushed = true;
                    moved = true;
                }
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(flushed) => flushed?,
            }
            self.unflushed = false;
            moved = true;
        }
        if self.last && !self.shut {
            // Who has gone need not be told.
            self.shut = Pin::new(&mut self.stream).poll_shutdown(context).is_ready();
            moved |= self.shut;
        }
        Ok(moved)
    }
}
