//! The client of HTTP/1: a connection that carries one exchange at a time (RFC 9112).
//!
//! Whoever waits for an answer drives the connection: no task and no queue stands in between, and a connection that waits
//! in the pool holds no buffer. It never connects, repeats or times anything.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::mem::take;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::Method;
use http_body::{Frame, SizeHint};
use portcullis_vm::{ConnectionAttributes, ResponseHead};

use tokio::task::AbortHandle;

use super::dial::Held;
use super::error::{SendError, Stage};
use super::request::Target;
use crate::body::Body;
use crate::http1::{Failed, Incoming, Outgoing, Problem, Tunnel};
use crate::wire::Wire;

/// A connection for one request at a time.
pub(super) struct Http1 {
    /// Shared with the writer, if there is one.
    link: Rc<RefCell<Link>>,
    attributes: Arc<ConnectionAttributes>,
    served: bool,
    writer: Option<Writer>,
}

impl fmt::Debug for Http1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1").field("connection", &self.attributes.id).finish_non_exhaustive()
    }
}

struct Link {
    wire: Wire,
    outgoing: Outgoing,
    incoming: Incoming,
    /// Nothing more can be written. The answer may be there all the same.
    deaf: Option<Problem>,
    /// Who waits for the answer while the writer works.
    reader: Option<Waker>,
    _open: Held,
}

/// Goes on writing a request whose answer has begun, for a client may read nothing before it has sent everything.
struct Writer(AbortHandle);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Http1 {
    pub(super) fn new(wire: Wire, attributes: Arc<ConnectionAttributes>, open: Held) -> Http1 {
        let link = Link {
            wire,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            deaf: None,
            reader: None,
            _open: open,
        };
        Http1 { link: Rc::new(RefCell::new(link)), attributes, served: false, writer: None }
    }

    pub(super) fn attributes(&self) -> &Arc<ConnectionAttributes> {
        &self.attributes
    }

    /// Whether it has been given a request before.
    pub(super) fn served(&self) -> bool {
        self.served
    }

    /// Whether an idle one is still open, and silent. Costs no system call while nothing comes.
    pub(super) fn is_open(&self) -> bool {
        let mut link = self.link.borrow_mut();
        if !link.incoming.is_reusable() {
            return false;
        }
        let silent = link.wire.is_silent();
        if !silent {
            link.incoming.close();
        }
        silent
    }

    /// Forgets who has used it, and may be dropped without it.
    pub(super) fn let_go(&mut self) {
        self.writer = None;
        self.link.borrow_mut().reader = None;
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// None came. At [`Stage::Request`] nothing was sent, and the connection is as good as before.
    pub(super) async fn send(
        &mut self,
        target: &Target<'_>,
        endpoint: SocketAddr,
        body: &mut Body,
    ) -> Result<ResponseHead, Box<SendError>> {
        let reused = self.served;
        self.link.borrow_mut().begin(target, endpoint, take(body))?;
        self.served = true;
        let answered = poll_fn(|context| self.link.borrow_mut().poll_head(context)).await;
        match answered {
            Ok(head) => {
                if !self.link.borrow().is_written() {
                    self.write_on();
                }
                Ok(head)
            }
            Err(problem) => {
                let body = self.link.borrow_mut().outgoing.take_untouched();
                let stage = match problem {
                    Problem::Broken(_) => Stage::Sent,
                    Problem::Protocol(_) => Stage::Protocol,
                };
                let reason = format!("{endpoint}: {problem}");
                let retry_safe = body.is_some();
                let endpoint = Some(endpoint);
                Err(Box::new(SendError { stage, retry_safe, reused, body, endpoint, reason }))
            }
        }
    }

    fn write_on(&mut self) {
        let link = Rc::downgrade(&self.link);
        let writing = poll_fn(move |context| match link.upgrade() {
            Some(link) => link.borrow_mut().poll_rest(context),
            None => Poll::Ready(()),
        });
        self.writer = Some(Writer(tokio::task::spawn_local(writing).abort_handle()));
    }

    /// The next part of the answer's body.
    pub(super) fn poll_frame(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Problem>>> {
        self.link.borrow_mut().poll_frame(context)
    }

    /// Whether the answer has come to its end.
    pub(super) fn is_answered(&self) -> bool {
        self.link.borrow().incoming.is_ended()
    }

    /// How long the rest of the answer's body is.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.link.borrow().incoming.size_hint()
    }

    /// Whether all of the request has gone out, or never will.
    pub(super) fn is_written(&self) -> bool {
        self.link.borrow().is_written()
    }

    /// Waits for that, instead of the writer.
    pub(super) async fn written(&mut self) {
        self.writer = None;
        poll_fn(|context| self.link.borrow_mut().poll_rest(context)).await;
    }

    /// Whether it can take another request.
    pub(super) fn is_reusable(&self) -> bool {
        let link = self.link.borrow();
        link.is_written() && link.deaf.is_none() && link.incoming.is_reusable()
    }

    /// What is left after a 101: the bytes.
    pub(super) fn into_tunnel(self) -> Option<Tunnel> {
        if !self.is_written() {
            return None;
        }
        let link = Rc::into_inner(self.link)?.into_inner();
        Some(Tunnel::new(link.incoming.into_ahead(), link.wire))
    }
}

impl Link {
    fn begin(
        &mut self,
        target: &Target<'_>,
        endpoint: SocketAddr,
        body: Body,
    ) -> Result<(), Box<SendError>> {
        let begun = self.outgoing.begin(body, |out, body| target.http1(out, endpoint, body));
        begun.map_err(|(reason, body)| SendError::before(Stage::Request, reason, body))?;
        self.incoming.begin(*target.method() == Method::HEAD);
        Ok(())
    }

    fn is_written(&self) -> bool {
        self.deaf.is_some() || self.outgoing.is_done()
    }

    /// Writes as long as it can.
    ///
    /// # Errors
    /// The body to be sent broke; that the connection did is kept for later.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Problem>> {
        if self.is_written() {
            return Poll::Ready(Ok(()));
        }
        match ready!(self.outgoing.poll(&mut self.wire, context)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Failed::Body(reason)) => Poll::Ready(Err(Problem::Broken(reason))),
            Err(Failed::Wire(error)) => {
                let problem = Problem::Broken(format!("the request could not be sent: {error}"));
                if !self.outgoing.is_touched() {
                    // Whatever there is to be read, it is no answer to this.
                    return Poll::Ready(Err(problem));
                }
                self.deaf = Some(problem);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<ResponseHead, Problem>> {
        // An upstream that answers early is heard before more is written to it: writing may take all the time there is.
        if self.outgoing.is_touched()
            && let Poll::Ready(head) = self.poll_answer(context)
        {
            return Poll::Ready(head);
        }
        if self.is_written() {
            return Poll::Pending;
        }
        match self.poll_write(context) {
            Poll::Ready(Err(problem)) => Poll::Ready(Err(problem)),
            _ => self.poll_answer(context),
        }
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Result<ResponseHead, Problem>> {
        let head = ready!(self.incoming.poll_response(&mut self.wire, context));
        Poll::Ready(match head {
            // A connection that takes nothing and says nothing: the first of the two tells more.
            Err(Problem::Broken(reason)) => {
                Err(self.deaf.take().unwrap_or(Problem::Broken(reason)))
            }
            head => head,
        })
    }

    /// Writes to the end, whatever becomes of it.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Err(problem) = ready!(self.poll_write(context)) {
            self.incoming.fail(problem.clone());
            self.deaf = Some(problem);
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(())
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Problem>>> {
        if !self.is_written() {
            self.reader = Some(context.waker().clone());
        }
        self.incoming.poll_frame(&mut self.wire, context)
    }
}
