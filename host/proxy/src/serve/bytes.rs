//! Client connections on listeners that do not speak HTTP: TLS is terminated, or only looked at, and the bytes are
//! handed on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_vm::{ConnectionAttributes, TlsAttributes};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Reception;
use crate::facts::next_connection_id;
use crate::snapshot::{Limits, Listener, ListenerProtocol};
use crate::tcp::{self, Client};
use crate::tls;

/// The two ends of an accepted socket: the peer's and ours.
type Ends = (SocketAddr, SocketAddr);

impl Reception {
    /// Serves a connection that carries no HTTP, to its end.
    pub(super) async fn bytes(
        &self,
        mut stream: TcpStream,
        listener: &Listener,
        limits: &Limits,
    ) -> io::Result<()> {
        let ends = (stream.peer_addr()?, stream.local_addr()?);
        let limit = limits.request_header_timeout;
        if let Some(server_tls) = &listener.tls {
            let accepted = tls::accept(server_tls, stream, limit).await;
            let accepted = accepted.inspect_err(|_| self.handshakes_failed.increment())?;
            self.hand_on(accepted.stream, ends, Some(accepted.attributes), Vec::new()).await;
        } else if listener.protocol == ListenerProtocol::Passthrough {
            let hello = tls::hello(&mut stream, limit).await;
            let hello = hello.inspect_err(|_| self.handshakes_failed.increment())?;
            let asked =
                TlsAttributes { server_name: hello.server_name, ..TlsAttributes::default() };
            self.hand_on(stream, ends, Some(asked), hello.read).await;
        } else {
            self.hand_on(stream, ends, None, Vec::new()).await;
        }
        Ok(())
    }

    async fn hand_on(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        (peer, local): Ends,
        tls: Option<TlsAttributes>,
        first: Vec<u8>,
    ) {
        let generation = self.generation.borrow().clone();
        let Some(listener) = generation.listener(&self.name) else { return };
        let id = next_connection_id();
        let connection = Arc::new(ConnectionAttributes { id, peer, local, tls: tls.map(Box::new) });
        tcp::serve(generation, Client { connection, listener, first }, stream).await;
    }
}
