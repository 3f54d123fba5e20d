//! The connection of a client: requests come in, answers go out, one after the other.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::Version;
use http::header::EXPECT;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::task::unconstrained;

use super::answer::Asked;
use super::incoming::Refused;
use super::{Failed, Incoming, Outgoing, Problem, Tunnel};
use crate::body::{Body, BodyError};
use crate::message::{Request, Response};
use crate::wire::Wire;

/// Bytes of a body that nobody wanted; of more than that the end is not waited for.
const READ_OVER: usize = 256 << 10;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client's connection.
pub struct Served {
    link: Rc<RefCell<Link>>,
    outgoing: Outgoing,
    /// What has to be known of the request that is being answered.
    asked: Asked,
}

/// What the body of a request shares with its connection.
struct Link {
    wire: Wire,
    incoming: Incoming,
    /// What is still to be written before the body of a request that waits to be asked for it.
    interim: &'static [u8],
    /// Some of it may lie in the connection's buffers.
    unflushed: bool,
    /// Which request is being read; the bodies of earlier ones are over.
    request: u64,
    /// Who waits for the client to go, once it has sent everything.
    driver: Option<Waker>,
}

/// The body of a request, read when it is asked for.
pub struct RequestBody {
    link: Rc<RefCell<Link>>,
    request: u64,
}

impl Served {
    /// `read` has come already.
    pub fn new(wire: Wire, read: Vec<u8>) -> Served {
        let incoming = Incoming::after(read);
        let link =
            Link { wire, incoming, interim: &[], unflushed: false, request: 0, driver: None };
        Served {
            link: Rc::new(RefCell::new(link)),
            outgoing: Outgoing::default(),
            asked: Asked::default(),
        }
    }

    /// The next request, whose head has at most `limit` bytes; nothing when the client has closed the connection.
    ///
    /// # Errors
    /// What comes is no request, or breaks off.
    pub fn poll_request(
        &mut self,
        context: &mut Context<'_>,
        limit: usize,
    ) -> Poll<Result<Option<(Request, RequestBody)>, Refused>> {
        let mut link = self.link.borrow_mut();
        let Link { wire, incoming, .. } = &mut *link;
        let Some(request) = ready!(incoming.poll_request(wire, context, limit))? else {
            return Poll::Ready(Ok(None));
        };
        link.request += 1;
        let waits = !link.incoming.is_ended() && wants_interim(&request);
        link.interim = if waits { CONTINUE } else { &[] };
        link.unflushed = false;
        self.asked = Asked::by(&request);
        let body = RequestBody { link: self.link.clone(), request: link.request };
        Poll::Ready(Ok(Some((request, body))))
    }

    /// Whether a part of the next request has come.
    pub fn has_begun(&self) -> bool {
        self.link.borrow().incoming.has_ahead()
    }

    /// Waits until the client has gone; as long as it may still be sending, whoever reads finds that out.
    pub fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut link = self.link.borrow_mut();
        let Link { wire, incoming, driver, .. } = &mut *link;
        match incoming.failure() {
            _ if incoming.is_ended() => return incoming.poll_gone(wire, context),
            Some(Problem::Broken(_)) => return Poll::Ready(()),
            _ => {}
        }
        *driver = Some(context.waker().clone());
        Poll::Pending
    }

    /// Begins to answer the request. `closing`: it is the connection's last.
    ///
    /// # Errors
    /// The response is none that can be said.
    pub fn answer(&mut self, response: Response<Body>, closing: bool) -> Result<(), String> {
        let Response { head, body } = response;
        let mut link = self.link.borrow_mut();
        let interim = std::mem::take(&mut link.interim);
        // One that has been begun has to be completed.
        let interim = if interim.len() < CONTINUE.len() { interim } else { &[] };
        if closing || !link.incoming.goes_on() {
            self.asked.close();
        }
        let asked = &mut self.asked;
        let begun = self.outgoing.begin(body, |out, body| {
            out.extend_from_slice(interim);
            asked.answer(out, &head, body)
        });
        drop(link);
        begun.map_err(|(reason, _)| reason)
    }

    /// Begins to answer what was no request.
    ///
    /// # Errors
    /// The response is none that can be said.
    pub fn refuse(&mut self, response: Response<Body>) -> Result<(), String> {
        self.asked = Asked::default();
        self.answer(response, true)
    }

    /// Writes the answer.
    ///
    /// # Errors
    /// It cannot be completed: the connection has to end.
    pub fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        // The body may be what reads the request: the link is free while it is asked.
        self.outgoing.poll(&mut Writer(&self.link), context)
    }

    /// Whether the connection goes on after the answer. A body that nobody wanted is read over if it is here, and not long.
    pub async fn goes_on(&mut self) -> bool {
        if !self.asked.goes_on() || !self.is_unread() {
            return self.asked.goes_on();
        }
        // Outside of the budget that tokio gives a task: who has used it up is told that nothing comes.
        unconstrained(poll_fn(|context| Poll::Ready(self.read_over(context)))).await
    }

    fn read_over(&mut self, context: &mut Context<'_>) -> bool {
        let mut link = self.link.borrow_mut();
        let Link { wire, incoming, .. } = &mut *link;
        let mut left = READ_OVER;
        while !incoming.is_ended() {
            let Poll::Ready(Some(Ok(frame))) = incoming.poll_frame(wire, context) else {
                return false;
            };
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { return false };
            left = rest;
        }
        true
    }

    /// Whether something of the request has not been read.
    pub fn is_unread(&self) -> bool {
        !self.link.borrow().incoming.is_ended()
    }

    /// What is left after a 101: the bytes. Nothing, while somebody holds the request's body.
    pub fn into_tunnel(self) -> Option<Tunnel> {
        let link = Rc::into_inner(self.link)?.into_inner();
        Some(Tunnel::new(link.incoming.into_ahead(), link.wire))
    }

    /// Writes `last`, and tells the client that nothing follows.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn close(&mut self, last: &[u8]) -> io::Result<()> {
        let mut writer = Writer(&self.link);
        writer.write_all(last).await?;
        writer.shutdown().await
    }

    /// Reads over what the client still sends; false once it has closed the connection. One that is closed with something
    /// unread in it is reset, and the client may lose the answer (RFC 9112, 9.6).
    pub fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut link = self.link.borrow_mut();
        let Link { wire, incoming, .. } = &mut *link;
        incoming.poll_over(wire, context)
    }
}

/// HTTP/1.0 knows no interim answers.
fn wants_interim(request: &Request) -> bool {
    let says = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    request.version == Version::HTTP_11 && request.head.headers.get(EXPECT).is_some_and(says)
}

impl Link {
    fn poll_interim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.interim.is_empty() && !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        if self.incoming.has_ahead() && self.interim.len() == CONTINUE.len() {
            // The client did not wait.
            self.interim = &[];
        }
        while !self.interim.is_empty() {
            let written = ready!(Pin::new(&mut self.wire).poll_write(context, self.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim = &self.interim[written..];
            self.unflushed = true;
        }
        ready!(Pin::new(&mut self.wire).poll_flush(context))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Problem>>> {
        if let Err(error) = ready!(self.poll_interim(context)) {
            return Poll::Ready(Some(Err(Problem::Broken(error.to_string()))));
        }
        let frame = ready!(self.incoming.poll_frame(&mut self.wire, context));
        if let Some(Err(problem)) = &frame {
            self.incoming.fail(problem.clone());
        }
        if (self.incoming.is_ended() || self.incoming.failure().is_some())
            && let Some(driver) = self.driver.take()
        {
            driver.wake();
        }
        Poll::Ready(frame)
    }
}

impl RequestBody {
    /// Why the request cannot be understood: recipients could take it for different ones.
    pub fn fault(&self) -> Option<String> {
        self.link.borrow().incoming.failure().map(ToString::to_string)
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody").field("request", &self.request).finish_non_exhaustive()
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut link = self.link.borrow_mut();
        if link.request != self.request {
            return Poll::Ready(Some(Err("the request is over".into())));
        }
        link.poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        let link = self.link.borrow();
        link.request == self.request && link.incoming.is_ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.link.borrow().incoming.size_hint()
    }
}

/// Writes to the connection without holding it.
struct Writer<'a>(&'a RefCell<Link>);

impl AsyncWrite for Writer<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.borrow_mut().wire).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.borrow_mut().wire).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().wire).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().wire).poll_shutdown(context)
    }
}
