//! Messages on their way to a gRPC stream: what a guest sends waits here until the upstream takes it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tokio::sync::Notify;

use super::MAX_MESSAGE;
use super::frames::framed;
use crate::body::{Body, BodyError};

/// What a waiting message takes beyond its bytes.
const OVERHEAD: usize = 64;

/// Bytes that wait in all outboxes of a filter, and how many may.
#[derive(Debug)]
pub struct Waiting {
    bytes: Cell<usize>,
    limit: usize,
}

impl Waiting {
    /// None so far.
    pub fn new(limit: usize) -> Rc<Waiting> {
        Rc::new(Waiting { bytes: Cell::new(0), limit })
    }
}

/// Where a guest's messages go in. Dropped before it was closed, it resets the stream.
#[derive(Debug)]
pub struct Outbox(Rc<Queue>);

#[derive(Debug)]
struct Queue {
    all: Rc<Waiting>,
    messages: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    end: Cell<End>,
    reader: RefCell<Option<Waker>>,
    overflow: Rc<Notify>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    Closed,
    Cancelled,
}

/// An outbox, and the request body that takes its messages.
pub fn outbox(all: Rc<Waiting>) -> (Outbox, Body) {
    let queue = Rc::new(Queue {
        all,
        messages: RefCell::default(),
        bytes: Cell::default(),
        end: Cell::default(),
        reader: RefCell::default(),
        overflow: Rc::default(),
    });
    (Outbox(queue.clone()), Body::stream(Outgoing(queue)))
}

impl Outbox {
    /// Adds a message. Too many bytes that wait, here or in all outboxes, are an overflow, and nothing is added any more.
    pub fn push(&self, message: Bytes) {
        let queue = &*self.0;
        if queue.end.get() != End::Open {
            return;
        }
        let bytes = message.len().saturating_add(OVERHEAD);
        let (here, all) = (queue.bytes.get() + bytes, queue.all.bytes.get() + bytes);
        if here > MAX_MESSAGE + OVERHEAD || all > queue.all.limit {
            queue.finish(End::Cancelled);
            return queue.overflow.notify_one();
        }
        queue.count(here);
        queue.messages.borrow_mut().push_back(message);
        queue.wake();
    }

    /// Nothing more will be added.
    pub fn close(&self) {
        self.0.finish(End::Closed);
    }

    /// Told once there is an overflow.
    pub fn overflow(&self) -> Rc<Notify> {
        self.0.overflow.clone()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.0.finish(End::Cancelled);
    }
}

impl Queue {
    fn finish(&self, end: End) {
        if self.end.get() == End::Open {
            self.end.set(end);
            self.wake();
        }
    }

    /// So many bytes wait here from now on.
    fn count(&self, bytes: usize) {
        let all = &self.all.bytes;
        all.set(all.get() + bytes - self.bytes.replace(bytes));
    }

    fn wake(&self) {
        if let Some(reader) = self.reader.borrow_mut().take() {
            reader.wake();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.count(0);
    }
}

struct Outgoing(Rc<Queue>);

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let queue = &*self.0;
        if queue.end.get() == End::Cancelled {
            return Poll::Ready(Some(Err(h2::Error::from(h2::Reason::CANCEL).into())));
        }
        if let Some(message) = queue.messages.borrow_mut().pop_front() {
            queue.count(queue.bytes.get() - (message.len() + OVERHEAD));
            return Poll::Ready(Some(Ok(Frame::data(framed(&message)))));
        }
        if queue.end.get() == End::Closed {
            return Poll::Ready(None);
        }
        *queue.reader.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.0.end.get() == End::Closed && self.0.messages.borrow().is_empty()
    }
}
