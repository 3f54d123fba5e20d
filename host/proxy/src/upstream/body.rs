//! The body of an upstream's answer, which holds the connection until it has ended.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::Lease;
use crate::body::BodyError;
use crate::http1::Tunnel;
use crate::message::Response;

/// The body of an upstream's answer. Read to its end it gives the connection back to the pool; dropped before, it closes
/// the connection (HTTP/1) or resets the stream (HTTP/2).
#[derive(Debug)]
pub struct ResponseBody {
    /// Of HTTP/2; an HTTP/1 connection is read by itself.
    incoming: Option<Incoming>,
    /// `None` once the body has ended.
    lease: Option<Lease>,
}

impl ResponseBody {
    pub(super) fn wrap(
        response: Response<Option<Incoming>>,
        lease: Lease,
    ) -> Response<ResponseBody> {
        // The connection of a tunnel never comes back.
        let tunnel = response.head.status == StatusCode::SWITCHING_PROTOCOLS;
        response.map(|incoming| {
            let mut body = ResponseBody { incoming, lease: Some(lease) };
            if !tunnel {
                body.release_at_end();
            }
            body
        })
    }

    /// What the connection has become by a 101.
    pub fn take_tunnel(&mut self) -> Option<Tunnel> {
        self.lease.take()?.into_tunnel()
    }

    /// Readers need not ask again after the last frame.
    fn release_at_end(&mut self) {
        if self.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release();
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match (&mut self.incoming, &self.lease) {
            (Some(incoming), _) => Pin::new(incoming).poll_frame(context).map_err(Into::into),
            (None, Some(lease)) => lease.poll_frame(context).map_err(Into::into),
            (None, None) => Poll::Ready(None),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(this.poll(context));
        match &frame {
            Some(Ok(frame)) if frame.is_trailers() => this.release(),
            Some(Ok(_)) => this.release_at_end(),
            Some(Err(_)) => drop(this.lease.take()),
            None => this.release(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match (&self.incoming, &self.lease) {
            (Some(incoming), _) => incoming.is_end_stream(),
            (None, Some(lease)) => lease.is_answered(),
            (None, None) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.incoming, &self.lease) {
            (Some(incoming), _) => incoming.size_hint(),
            (None, Some(lease)) => lease.size_hint(),
            (None, None) => SizeHint::with_exact(0),
        }
    }
}
