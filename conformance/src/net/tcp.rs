//! Connections without HTTP: a server that speaks first and then gives back what it gets, and a client that sends, closes its
//! side and reads to the end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::PATIENCE;
use super::bodies::{Waiter, data};
use crate::case::{Answer, Connection, Piece};

/// Sends the pieces of its answer, then everything that comes, and ends when the other side has.
pub async fn serve(mut stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    for piece in answer.body.iter().filter_map(data) {
        stream.write_all(&piece).await?;
    }
    let (mut incoming, mut outgoing) = stream.split();
    copy(&mut incoming, &mut outgoing).await?;
    outgoing.shutdown().await
}

/// Opens a case's connection; all that comes back.
///
/// # Errors
/// Nobody listens, or no end in time.
pub async fn connect(
    address: SocketAddr,
    connection: &Connection,
    waiter: &Waiter,
) -> Result<Vec<u8>> {
    let socket = TcpSocket::new_v4()?;
    let from = connection.from.unwrap_or(Ipv4Addr::LOCALHOST);
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
    let exchange = async {
        let mut stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        for piece in &connection.send {
            if let Piece::Wait { log } = piece {
                let (waiter, log) = (waiter.clone(), log.clone());
                // The comparison of the log tells what did not come.
                let _came = spawn_blocking(move || waiter(&log)).await?;
            }
            if let Some(piece) = data(piece) {
                stream.write_all(&piece).await?;
            }
        }
        // Who has been closed need not be told.
        let _told = stream.shutdown().await;
        let mut received = Vec::new();
        // What breaks off is compared as far as it came.
        let _broken = stream.read_to_end(&mut received).await;
        Ok(received)
    };
    timeout(PATIENCE, exchange).await.context("no end of the connection in time")?
}

/// Sends these bytes, closes its side when the first ones have come back, and reads to the end.
///
/// # Errors
/// Nobody listens, or the connection breaks before the end. It waits as long as nothing comes.
pub async fn talk(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(bytes).await?;
    let mut received = Vec::new();
    let _end = stream.read_buf(&mut received).await?;
    // Who has been closed need not be told.
    let _told = stream.shutdown().await;
    stream.read_to_end(&mut received).await?;
    Ok(received)
}
