//! Listening sockets: one for each worker and listener, by `SO_REUSEPORT`, so that the kernel spreads connections.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener as Accepting, TcpStream};

/// Connections that wait to be accepted, on each socket.
const BACKLOG: i32 = 4096;

/// One socket for each worker, bound, not listening yet: a client is not to wait in the queue of a listener that may
/// still be refused. `ours`: the address is already listened on by us, so that finding it in use is fine.
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
    Ok(socket.into())
}

/// Begins to listen, on a worker.
///
/// # Errors
/// The system refuses, in particular because another process has taken the address since it was bound.
pub fn listen(socket: TcpListener) -> io::Result<Accepting> {
    SockRef::from(&socket).listen(BACKLOG)?;
    Accepting::from_std(socket)
}

/// Hands every connection that waits in the queue of a socket to `receive`, and closes the socket.
///
/// The runtime may not have heard of the latest connections, so the system is asked.
pub fn empty(socket: Accepting, mut receive: impl FnMut(TcpStream)) {
    let Ok(socket) = socket.into_std() else { return };
    loop {
        match socket.accept() {
            Ok((stream, _)) => {
                let taken = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = taken {
                    receive(stream);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}
