//! Connections that have had one answer and wait.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};

const PATIENCE: Duration = Duration::from_secs(10);

/// Connects, asks once and reads the answer; the connection stays open.
///
/// # Errors
/// Nobody listens, or the answer is no 200 with this body.
pub fn ask(address: SocketAddr, body: &[u8]) -> Result<TcpStream> {
    asked(TcpStream::connect(address)?, body)
}

/// The same on a connection that is there.
///
/// # Errors
/// The answer is no 200 with this body.
pub fn asked(mut stream: TcpStream, body: &[u8]) -> Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.ends_with(body) {
        let read = stream.read(&mut piece)?;
        ensure!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..read]);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
    Ok(stream)
}

/// Whether the other side has ended it.
#[must_use]
pub fn is_closed(stream: &TcpStream) -> bool {
    let nothing_yet = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
    stream.set_nonblocking(true).is_err()
        || stream.peek(&mut [0]).map_or_else(|error| !nothing_yet(error), |read| read == 0)
}
