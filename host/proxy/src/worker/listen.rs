//! Listening sockets: one for each worker and listener, by `SO_REUSEPORT`, so that the kernel spreads connections.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted, on each socket.
const BACKLOG: i32 = 4096;

/// One socket for each worker. `ours`: the address is already listened on by us, so that finding it in use is fine.
///
/// # Errors
/// The address cannot be had, in particular because another process has it.
pub fn bind(
    address: SocketAddr,
    workers: usize,
    ours: bool,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    if !ours && address.port() != 0 {
        // With SO_REUSEPORT alone, two processes of the same user would silently share the address.
        drop(socket(address, false)?);
    }
    let first = socket(address, true)?;
    let bound = first.local_addr()?;
    let rest = (1..workers).map(|_| socket(bound, true));
    let sockets = std::iter::once(Ok(first)).chain(rest).collect::<io::Result<Vec<_>>>()?;
    Ok((bound, sockets))
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}
