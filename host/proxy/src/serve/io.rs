//! The bytes of a client connection: what was read to find out the protocol is read again, and the watch learns when
//! bytes arrive.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clock::Watch;

/// What an HTTP/2 client with prior knowledge begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks, by its first bytes, which come with it.
#[derive(Debug)]
pub enum Detected {
    /// HTTP/1, or nothing that we know; hyper answers.
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

/// A connection whose first bytes were read before, and whose watch learns of later ones.
#[derive(Debug)]
pub struct Metered<T> {
    stream: T,
    read: Vec<u8>,
    /// `None`: nobody needs to know.
    watch: Option<Arc<Watch>>,
}

impl<T> Metered<T> {
    /// `read` comes first.
    pub fn new(stream: T, read: Vec<u8>, watch: Option<Arc<Watch>>) -> Metered<T> {
        Metered { stream, read, watch }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.read.is_empty() {
            std::task::ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        } else {
            let count = this.read.len().min(buffer.remaining());
            buffer.put_slice(&this.read[..count]);
            this.read.drain(..count);
        }
        if let Some(watch) = &this.watch
            && buffer.filled().len() > before
        {
            watch.bytes_arrived();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
