//! The first message of a TLS client, read without answering it: for listeners that pass TLS on and need to know only
//! whom the client asks for. What was read is kept, byte for byte.

use std::io;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// A hello is at most one handshake message; ones with post-quantum keys and many extensions take some 2 KiB.
const LONGEST: usize = 16 << 10;

/// What a client begins with.
#[derive(Debug)]
pub struct Hello {
    /// All that was read, to be passed on.
    pub read: Vec<u8>,
    /// Whom the client asks for, in lower case.
    pub server_name: Option<String>,
}

/// Reads up to the end of a client's hello, however it is cut into records and segments.
///
/// # Errors
/// The client does not speak TLS, went away, sent more than 16 KiB, or took longer than `limit`
/// ([`io::ErrorKind::TimedOut`]).
pub async fn hello(stream: &mut (impl AsyncRead + Unpin), limit: Duration) -> io::Result<Hello> {
    match timeout(limit, read(stream)).await {
        Ok(read) => read,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no TLS hello in time")),
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Hello> {
    let mut acceptor = Acceptor::default();
    let mut read = Vec::with_capacity(2 << 10);
    loop {
        let seen = read.len();
        if seen >= LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the TLS hello is too long"));
        }
        if (&mut *stream).take((LONGEST - seen) as u64).read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fresh = &read[seen..];
        while !fresh.is_empty() {
            acceptor.read_tls(&mut fresh)?;
            let accepted = acceptor
                .accept()
                .map_err(|(problem, _)| io::Error::new(io::ErrorKind::InvalidData, problem))?;
            if let Some(accepted) = accepted {
                let server_name =
                    accepted.client_hello().server_name().map(str::to_ascii_lowercase);
                return Ok(Hello { read, server_name });
            }
        }
    }
}
