//! The first bytes of a client connection: what they say of the protocol, and that they are read again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wire::Wire;

/// What an HTTP/2 client with prior knowledge begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks, by its first bytes, which come with it.
#[derive(Debug)]
pub enum Detected {
    /// HTTP/1, or nothing that we know, which is answered like it.
    Http1(TcpStream, Vec<u8>),
    /// HTTP/2 with prior knowledge.
    Http2(TcpStream, Vec<u8>),
    /// It began and did not go on.
    TooSlow(TcpStream),
    /// It never began, or went away.
    Nothing,
}

/// Reads until it is clear what the client speaks; a client that has sent nothing is given up after `idle`, or when
/// `closed` is ready.
///
/// # Errors
/// The connection breaks.
pub async fn detect(
    mut stream: TcpStream,
    head: Duration,
    idle: Duration,
    closed: impl Future<Output = ()>,
) -> io::Result<Detected> {
    let mut read = Vec::with_capacity(PREFACE.len());
    let first = tokio::select! {
        biased;
        first = timeout(idle, stream.read_buf(&mut read)) => first,
        () = closed => return Ok(Detected::Nothing),
    };
    if !matches!(first, Ok(Ok(count)) if count > 0) {
        return Ok(Detected::Nothing);
    }
    let rest = async {
        while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
            if stream.read_buf(&mut read).await? == 0 {
                break;
            }
        }
        Ok::<_, io::Error>(())
    };
    match timeout(head, rest).await {
        Err(_) => Ok(Detected::TooSlow(stream)),
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) if read.starts_with(PREFACE) => Ok(Detected::Http2(stream, read)),
        Ok(Ok(())) => Ok(Detected::Http1(stream, read)),
    }
}

/// A connection whose first bytes were read before.
#[derive(Debug)]
pub struct Prefixed {
    read: Vec<u8>,
    wire: Wire,
}

impl Prefixed {
    /// `read` comes first.
    pub fn new(wire: Wire, read: Vec<u8>) -> Prefixed {
        Prefixed { read, wire }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read.is_empty() {
            return Pin::new(&mut this.wire).poll_read(context, buffer);
        }
        let count = this.read.len().min(buffer.remaining());
        buffer.put_slice(&this.read[..count]);
        this.read.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().wire).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().wire).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_shutdown(context)
    }
}
