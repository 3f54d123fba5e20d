//! Waiting for a head to pass the filters, and putting its `content-length` right when it goes.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::CONTENT_LENGTH;
use portcullis_vm::{Direction, HttpStream};

use super::{Exchange, Interruption, attempt};
use crate::chain::{Chain, Party, Passed};
use crate::http1::number;

impl Exchange {
    /// Waits until the head has passed all filters. The body is read meanwhile only as far as filters ask for it.
    pub(super) async fn wait_head(&self, direction: Direction) -> Result<(), Interruption> {
        poll_fn(|context| {
            self.poll_until(direction, context, |chain| {
                matches!(chain.passed(direction), Some(Passed::Headers { .. }))
            })
        })
        .await
    }

    /// Takes the head once it may go; true when nothing follows.
    pub(super) async fn take_head(&self, direction: Direction) -> Result<bool, Interruption> {
        self.wait_release(direction).await?;
        Ok(self.release_head(direction))
    }

    /// Waits until the head may go: one that declares a length waits for the first piece of a body that a filter sees,
    /// since the filter may change it.
    pub(super) async fn wait_release(&self, direction: Direction) -> Result<(), Interruption> {
        let waits = self.chain.borrow().sees_body(direction) && self.declared_length(direction);
        poll_fn(|context| {
            self.poll_until(direction, context, |chain| match chain.passed(direction) {
                Some(Passed::Headers { end }) => *end || !waits || chain.has_body(direction),
                _ => false,
            })
        })
        .await
    }

    /// Takes a head that may go; true when nothing follows.
    pub(super) fn release_head(&self, direction: Direction) -> bool {
        let mut chain = self.chain.borrow_mut();
        self.correct_length(&mut chain, direction);
        match chain.take_passed(direction) {
            Some(Passed::Headers { end }) => end,
            _ => true,
        }
    }

    fn poll_until(
        &self,
        direction: Direction,
        context: &mut Context<'_>,
        done: impl Fn(&Chain) -> bool,
    ) -> Poll<Result<(), Interruption>> {
        self.mailbox.wait(Party::Head, context);
        loop {
            let mut chain = self.chain.borrow_mut();
            chain.pump();
            if let Some(terminal) = chain.take_terminal() {
                return Poll::Ready(Err(Interruption::Terminal(terminal)));
            }
            if let Some(direction) = self.broken.get() {
                return Poll::Ready(Err(attempt::broken_off(direction)));
            }
            if done(&chain) {
                return Poll::Ready(Ok(()));
            }
            if !chain.wants_input(direction) {
                return Poll::Pending;
            }
            drop(chain);
            std::task::ready!(self.poll_feed(direction, context));
        }
    }

    fn declared_length(&self, direction: Direction) -> bool {
        let has = |stream: &mut HttpStream| match direction {
            Direction::Request => stream.request.headers.contains(CONTENT_LENGTH),
            Direction::Response => {
                stream.response.as_ref().is_some_and(|head| head.headers.contains(CONTENT_LENGTH))
            }
        };
        self.local.with(self.key, has).unwrap_or(false)
    }

    /// Puts `content-length` right where filters have changed the length, or takes it away where it is not known yet.
    fn correct_length(&self, chain: &mut Chain, direction: Direction) {
        let (whole, changed) = (chain.whole_length(direction), chain.length_changed(direction));
        let settled = self.local.with(self.key, |stream| {
            let headers = match (direction, &stream.response) {
                (Direction::Request, _) => &stream.request.headers,
                // The length is not that of a body which follows.
                (Direction::Response, Some(head)) if self.has_no_body(head.status) => return None,
                (Direction::Response, Some(head)) => &head.headers,
                (Direction::Response, None) => return None,
            };
            let declared = headers.get(CONTENT_LENGTH)?;
            let declared = number(declared);
            let length = whole.or(declared.filter(|_| !changed));
            if length.is_none() || length != declared {
                set_length(stream, direction, length);
            }
            Some(length)
        });
        if let Some(length) = settled.flatten() {
            chain.promise(direction, length);
        }
    }
}

fn set_length(stream: &mut HttpStream, direction: Direction, length: Option<u64>) {
    let headers = match (direction, &mut stream.response) {
        (Direction::Response, Some(head)) => &mut head.headers,
        _ => &mut Arc::make_mut(&mut stream.request).headers,
    };
    if let Some(length) = length {
        // In the place of another, for which there was room.
        let _fits = headers.insert(CONTENT_LENGTH, length.to_string());
    } else {
        headers.remove(CONTENT_LENGTH);
    }
}
