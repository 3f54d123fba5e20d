//! Moves bytes: from one side through the filters to the other, each way only as fast as the receiver takes them, and
//! each end on its own (half-close). Decides when the connection is over, and why.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use portcullis_vm::{Direction, Peer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::Session;
use super::side::{Piece, Side};
use crate::chain::{Party, Passed, Terminal};
use crate::upstream::{self, SendError};
use crate::wire::Wire;

/// How long the client gets to take what has passed already when the connection ends early.
const LINGER: Duration = Duration::from_secs(5);

/// Why a connection is over.
#[derive(Debug)]
pub enum End {
    /// Both sides have ended, one after the other.
    Complete,
    /// No route takes it.
    NoRoute,
    /// The route has no backend, or a filter named one that does not exist.
    NoBackend,
    /// The upstream cannot be reached.
    Unreachable(SendError),
    /// The client's connection broke.
    ClientBroke(io::Error),
    /// The upstream's connection broke.
    UpstreamBroke(io::Error),
    /// Nothing has moved for too long.
    Idle,
    /// A filter closed it, or cannot run.
    Filter(Terminal),
}

type Dialing = Pin<Box<dyn Future<Output = Result<upstream::Bytes, SendError>>>>;

/// How far it is to the upstream.
enum Upstream {
    /// The filters have not let the connection pass.
    Awaited,
    /// It is being dialled.
    Dialing(Dialing),
    /// It is there.
    Open(Box<Open>),
}

struct Open {
    side: Side<Wire>,
    /// Counts the connection.
    _open: upstream::Held,
}

/// The two sides of one connection.
pub struct Relay<T> {
    session: Rc<Session>,
    client: Side<T>,
    upstream: Upstream,
    idle: Pin<Box<Sleep>>,
    moved: Instant,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Relay<T> {
    /// `first` was read of the client already.
    pub fn new(session: Rc<Session>, stream: T, first: Vec<u8>) -> Relay<T> {
        let idle = Box::pin(sleep(session.idle_timeout));
        let client = Side::new(stream, first);
        Relay { session, client, upstream: Upstream::Awaited, idle, moved: Instant::now() }
    }

    /// Relays until the connection is over.
    pub async fn run(mut self) {
        self.session.chain.borrow_mut().feed_head(Direction::Request, false);
        let end = poll_fn(|context| self.poll(context)).await;
        self.session.note(&end);
        if let End::UpstreamBroke(_) = end {
            self.session.upstream_closed(Peer::Remote);
        }
        if !matches!(end, End::Complete | End::ClientBroke(_) | End::Idle) {
            self.dismiss().await;
        }
    }

    /// Writes what the client is still to get, and says good-bye.
    async fn dismiss(&mut self) {
        self.upstream = Upstream::Awaited;
        self.take_passed_to_client();
        self.client.push(Default::default(), true);
        let farewell = poll_fn(|context| match self.client.poll_write(context) {
            Ok(_) if !self.client.is_shut() => Poll::Pending,
            Ok(_) | Err(_) => Poll::Ready(()),
        });
        if timeout(LINGER, farewell).await.is_err() {
            tracing::debug!("a client did not take the rest of its bytes");
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        self.session.mailbox.wait(Party::Head, context);
        loop {
            match self.step(context) {
                Err(end) => return Poll::Ready(end),
                Ok(true) => self.moved = Instant::now(),
                Ok(false) if self.is_over() => return Poll::Ready(End::Complete),
                Ok(false) => return self.poll_idle(context).map(|()| End::Idle),
            }
        }
    }

    /// Moves whatever can be moved now. Whether anything was.
    fn step(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = self.heed_filters()?;
        moved |= self.poll_connect(context)?;
        moved |= self.poll_request(context)?;
        moved |= self.poll_response(context)?;
        Ok(moved)
    }

    /// What callbacks of others have done to this connection.
    fn heed_filters(&self) -> Result<bool, End> {
        let mut chain = self.session.chain.borrow_mut();
        chain.pump();
        match chain.take_terminal() {
            Some(terminal) => Err(End::Filter(terminal)),
            None => Ok(false),
        }
    }

    /// Connects once the filters have let the new connection pass.
    fn poll_connect(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if let Upstream::Awaited = self.upstream {
            let mut chain = self.session.chain.borrow_mut();
            if !matches!(chain.passed(Direction::Request), Some(Passed::Headers { .. })) {
                return Ok(false);
            }
            chain.take_passed(Direction::Request);
            drop(chain);
            let cluster = self.session.choose().ok_or(End::NoBackend)?;
            self.upstream = Upstream::Dialing(Box::pin(async move { cluster.connect().await }));
        }
        let Upstream::Dialing(dialing) = &mut self.upstream else { return Ok(false) };
        match dialing.as_mut().poll(context) {
            Poll::Pending => Ok(false),
            Poll::Ready(dialled) => {
                let upstream::Bytes { wire, attributes, held } =
                    dialled.map_err(End::Unreachable)?;
                self.session.connected(&attributes);
                let side = Side::new(wire, Vec::new());
                self.upstream = Upstream::Open(Box::new(Open { side, _open: held }));
                Ok(true)
            }
        }
    }

    /// From the client to the upstream. While it is being dialled, the client is not read.
    fn poll_request(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        let wanted = self.session.chain.borrow().wants_input(Direction::Request);
        if wanted
            && !matches!(self.upstream, Upstream::Dialing(_))
            && let Poll::Ready(read) = self.client.poll_read(context)
        {
            let piece = read.map_err(End::ClientBroke)?;
            self.session.note_received(piece.bytes.len());
            if piece.end && self.client.is_shut() {
                // Of two ends the later one closes.
                self.session.closed_by.set(Peer::Remote);
            }
            self.feed(Direction::Request, piece)?;
            moved = true;
        }
        let Upstream::Open(open) = &mut self.upstream else { return Ok(moved) };
        if open.side.is_drained()
            && let Some(Passed::Data { data, end }) =
                self.session.chain.borrow_mut().take_passed(Direction::Request)
        {
            open.side.push(data, end);
            moved = true;
        }
        moved |= open.side.poll_write(context).map_err(End::UpstreamBroke)?;
        Ok(moved)
    }

    /// From the upstream to the client.
    fn poll_response(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        let wanted = self.session.chain.borrow().wants_input(Direction::Response);
        if wanted
            && let Upstream::Open(open) = &mut self.upstream
            && let Poll::Ready(read) = open.side.poll_read(context)
        {
            let piece = read.map_err(End::UpstreamBroke)?;
            let end = piece.end;
            self.feed(Direction::Response, piece)?;
            if end {
                self.session.upstream_closed(Peer::Remote);
                self.heed_filters()?;
            }
            moved = true;
        }
        if self.client.is_drained() {
            moved |= self.take_passed_to_client();
        }
        moved |= self.client.poll_write(context).map_err(End::ClientBroke)?;
        Ok(moved)
    }

    /// Shows the filters what was read.
    fn feed(&self, direction: Direction, Piece { bytes, end }: Piece) -> Result<bool, End> {
        self.session.chain.borrow_mut().feed_data(direction, bytes, end);
        self.heed_filters()
    }

    fn take_passed_to_client(&mut self) -> bool {
        let mut moved = false;
        while let Some(passed) = self.session.chain.borrow_mut().take_passed(Direction::Response) {
            if let Passed::Data { data, end } = passed {
                self.session.note_sent(data.len());
                self.client.push(data, end);
                moved = true;
            }
        }
        moved
    }

    /// Whether both ways have come to their end.
    fn is_over(&self) -> bool {
        match &self.upstream {
            Upstream::Open(open) => open.side.is_shut() && self.client.is_shut(),
            Upstream::Awaited | Upstream::Dialing(_) => false,
        }
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let limit = self.session.idle_timeout;
        while self.idle.as_mut().poll(context).is_ready() {
            if self.moved.elapsed() >= limit {
                return Poll::Ready(());
            }
            self.idle.as_mut().reset(self.moved + limit);
        }
        Poll::Pending
    }
}
