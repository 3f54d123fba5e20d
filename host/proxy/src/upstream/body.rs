//! The body of an upstream's answer, which holds the connection until it has ended.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::Lease;

/// The body of an upstream's answer. Read to its end it gives the connection back to the pool; dropped before, it closes
/// the connection (HTTP/1) or resets the stream (HTTP/2).
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    /// `None` once the body has ended.
    lease: Option<Lease>,
}

impl ResponseBody {
    pub(super) fn wrap(response: Response<Incoming>, lease: Lease) -> Response<ResponseBody> {
        // The connection of a tunnel never comes back.
        let tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        response.map(|incoming| {
            let mut body = ResponseBody { incoming, lease: Some(lease) };
            if !tunnel {
                body.release_at_end();
            }
            body
        })
    }

    /// Readers need not ask again after the last frame.
    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.incoming).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => this.release(),
            Poll::Ready(Some(Ok(_))) => this.release_at_end(),
            Poll::Ready(None) => this.release(),
            Poll::Ready(Some(Err(_))) => drop(this.lease.take()),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
